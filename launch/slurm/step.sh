# Sourced by job files: runs the job's one step, ends it in time, and decides what comes after.

# Where the project's own files are: a checkout, or the snapshot that launch/submit.py made.
EPO_ROOT=${EPO_ROOT:-$PWD}
# The environment's programs: of the interpreter that submitted the job; else of `make install`, where there is one; else
# those that the job was submitted with.
if [[ -n ${EPO_BIN:-} ]]; then
    export PATH="$EPO_BIN:$PATH"
elif [[ -x .venv/bin/python ]]; then
    export PATH="$PWD/.venv/bin:$PATH"
fi
export PYTHONUNBUFFERED=1
# torch kills ranks 30 s after SIGTERM unless told otherwise. Must be less than the lead of --signal.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120}
# Since Slurm 22.05 srun does not take this over from sbatch by itself.
if [[ -n ${SLURM_CPUS_PER_TASK:-} ]]; then
    export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
fi
# Where the stages of this job say how far they are, over all its attempts.
export EPO_JOB_RECORD=$PWD/.slurm-$SLURM_JOB_ID.attempts

# run_stage [SRUN_OPTION ...] -- ACCELERATE_CONFIG STAGE.py [ARGUMENT ...]: one `accelerate launch` a node.
run_stage() {
    local options=()
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    export MASTER_ADDR
    # The job's own port, below the range that the kernel gives to outgoing connections.
    export MASTER_PORT=$((10000 + SLURM_JOB_ID % 20000))
    # One rank a GPU. Without GPUs one a node, or as many as RANKS_PER_NODE says.
    export RANKS_PER_NODE=${RANKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
    # In single quotes, because node and task numbers must be read on each node: here SLURM_NODEID is always 0.
    # The user's words travel as arguments ("$@"), never as a piece of a command line.
    run_step "${options[@]}" bash -c '
        exec accelerate launch --config_file "$1" \
            --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" \
            --num_processes "$((SLURM_NNODES * RANKS_PER_NODE))" \
            --main_process_ip "$MASTER_ADDR" --main_process_port "$MASTER_PORT" \
            --deepspeed_multinode_launcher standard \
            "${@:2}"' stage "$@"
}

# run_step [SRUN_OPTION ...] COMMAND [ARGUMENT ...]: run one task of it on each node and leave the job with its exit code.
#
# Slurm sends USR1 shortly before the time limit. The step is then ended and the job put back into the queue, where
# it goes on from its last checkpoint: a stage resumes from its own output_dir. launch/requeue.py says whether, and
# whether after a crash; what was cancelled, or is pre-empted, is Slurm's matter.
run_step() {
    local is_time_up=0 is_cancelled=0 was_interrupted=1 code=0
    local restarts=${SLURM_RESTART_COUNT:-0}
    echo "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, restarted $restarts times"
    # A node that fails ends the others, which would wait for it. After sbatch --export=NONE srun would start the step
    # without any variable, unless told to hand on what there is.
    srun --export=ALL --kill-on-bad-exit=1 "$@" &
    local step=$!
    # scancel and not kill: srun answers SIGTERM by killing its tasks, while this lets them end in order.
    trap 'was_interrupted=1; is_time_up=1; scancel --signal=TERM "$SLURM_JOB_ID" || true' USR1
    trap 'was_interrupted=1; is_cancelled=1; scancel --signal=TERM "$SLURM_JOB_ID" || true' TERM
    # A trapped signal ends `wait` early: then wait again, until the step itself is gone.
    while ((was_interrupted)); do
        was_interrupted=0 code=0
        wait "$step" || code=$?
    done
    if ((code == 0)); then
        rm -f "$EPO_JOB_RECORD"
    elif ((is_time_up || !is_cancelled)); then
        local asked=("$EPO_JOB_RECORD" --code "$code" --restarts "$restarts")
        ((!is_time_up)) || asked+=(--time_up)
        if python "$EPO_ROOT/launch/requeue.py" "${asked[@]}"; then
            scontrol requeue "$SLURM_JOB_ID"
        fi
    fi
    exit "$code"
}
