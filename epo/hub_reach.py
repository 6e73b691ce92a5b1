"""Whether the hub answers at all, found out in seconds: its client tries each file again for half a minute."""

import socket
import time
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies

_TIMEOUT_S = 5.0
_PAUSES_S = (0.0, 1.0)  # a name server may stumble once


def hub_answers() -> bool:
    """Tell whether this machine has a connection to the hub; through a proxy it is taken to have one.

    Where it has none, only files that were fetched before are to be looked for. Where it has one, the client's own
    retries remain what they are.
    """
    from huggingface_hub import constants

    endpoint = urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE:
        return False
    if endpoint.scheme in getproxies() or "all" in getproxies():
        return True
    port = endpoint.port if endpoint.port is not None else 443 if endpoint.scheme == "https" else 80
    return endpoint.hostname is not None and _answers(endpoint.hostname, port)


@lru_cache(maxsize=8)
def _answers(host: str, port: int) -> bool:
    for pause_s in _PAUSES_S:
        time.sleep(pause_s)
        try:
            socket.create_connection((host, port), timeout=_TIMEOUT_S).close()
        except OSError:
            continue
        return True
    return False


__all__ = ["hub_answers"]
