# Sourced by the job files beside it: runs the job's one step, ends it in time, and hands on how it ended.

# The project's environment, where `make install` put it; else the one that the job was submitted from.
if [[ -x .venv/bin/python ]]; then
    export PATH="$PWD/.venv/bin:$PATH"
fi
export PYTHONUNBUFFERED=1
# torch kills ranks 30 s after SIGTERM unless told otherwise. Must be less than the lead of --signal.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120}
# Since Slurm 22.05 srun does not take this over from sbatch by itself.
if [[ -n ${SLURM_CPUS_PER_TASK:-} ]]; then
    export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
fi

# run_step COMMAND [ARGUMENT ...]: run one task of it on each node and leave the job with its exit code.
#
# Slurm sends USR1 shortly before the time limit. The step is then ended and the job put back into the queue, where
# it goes on from its last checkpoint: a stage resumes from its own output_dir. MAX_RESTARTS (100) bounds how often.
run_step() {
    local is_time_up=0 was_interrupted=1 code=0
    local restarts=${SLURM_RESTART_COUNT:-0}
    echo "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, restarted $restarts times"
    # A node that fails ends the others, which would wait for it.
    srun --kill-on-bad-exit=1 "$@" &
    local step=$!
    # scancel and not kill: srun answers SIGTERM by killing its tasks, while this lets them end in order.
    trap 'was_interrupted=1; is_time_up=1; scancel --signal=TERM "$SLURM_JOB_ID" || true' USR1
    trap 'was_interrupted=1; scancel --signal=TERM "$SLURM_JOB_ID" || true' TERM
    # A trapped signal ends `wait` early: then wait again, until the step itself is gone.
    while ((was_interrupted)); do
        was_interrupted=0 code=0
        wait "$step" || code=$?
    done
    if ((is_time_up && code != 0 && restarts < ${MAX_RESTARTS:-100})); then
        echo "time is up: back into the queue"
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$code"
}
