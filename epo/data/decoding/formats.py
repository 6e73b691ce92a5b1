"""Which containers are taken, and how the refusal of another is worded."""

import re
from pathlib import Path

import av
import av.logging

from epo.data.decoding.completeness import cut_off_evidence

# Pure containers and elementary streams only: playlists, scripts and image sequences, which make FFmpeg open other
# files or addresses, are left out. The names are those of FFmpeg's demuxers.
MEDIA_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,apng,asf,au,avi,caf,dsf,dts,dtshd,dv,eac3,flac,flv,gif,h264,hevc,ivf,m4v,"
    "matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mpegvideo,mxf,nistsphere,nut,obu,ogg,rm,tak,truehd,tta,voc,w64,wav,"
    "wtv,wv,yuv4mpegpipe"
)
_USUAL = (
    "wav, flac, mp3, m4a, aac, ogg, opus, wma, amr, aiff, caf, au, ac3, ape, wv, sph; "
    "mp4, mov, 3gp, mkv, webm, avi, flv, wmv, mpg, vob, ts, m2ts, mxf, ogv, rm, dv, gif"
)


def refusal(path: Path, error: Exception) -> str:
    """Word why FFmpeg could not open a file: what it is, what is taken, and the remedy."""
    name = None if isinstance(error, OSError) and error.errno == 2 else _probed_format(path)
    if name is not None and not set(name.split(",")) & set(MEDIA_FORMATS.split(",")):
        return f"is of the kind {name!r}, which is not taken; convert it to one of {_USUAL}"
    if path.is_file() and (evidence := cut_off_evidence(path)) is not None:
        return f"cannot be opened, for {evidence}, so the file is cut off; restore it or remove it from the clip"
    reason = getattr(error, "strerror", None)
    words = error if reason is None else reason
    if name is None and isinstance(error, av.InvalidDataError):
        return f"is no media file, or its beginning is damaged ({words}); restore it, or convert it to one of {_USUAL}"
    return f"cannot be opened ({words}); restore the file or remove it from the clip"


def _probed_format(path: Path) -> str | None:
    """Return FFmpeg's name for what the file looks like; None where it has none.

    Only its log tells what it took a file for before it refused it.
    """
    level = av.logging.get_level()
    av.logging.set_level(av.logging.DEBUG)
    try:
        with av.logging.Capture() as records:
            try:
                av.open(f"file:{path}", options={"format_whitelist": "none", "protocol_whitelist": "file"}).close()
            except (av.FFmpegError, OSError, EOFError):
                pass
    finally:
        av.logging.set_level(level)
    found = [re.search(r"Format (\S+) probed with size=\d+ and score=(\d+)", message) for _, _, message in records]
    names = [match[1] for match in found if match is not None]
    return names[-1] if names else None


__all__ = ["MEDIA_FORMATS", "refusal"]
