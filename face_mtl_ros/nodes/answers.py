"""Answers of services to clients that the middleware has not found yet.

A client may discover a service, and call it, before the service has discovered where the client wants its answer; on a
busy robot by a second and more. rmw_fastrtps then waits for 0.1 s and drops the answer, and whoever called waits for
good. So what could not be sent is sent again, in a thread, until the client is found or gone.
"""

import threading
import time
import warnings
from typing import Any

from rclpy.logging import get_logger
from rclpy.service import Service

# Seconds before each further try. A try holds Python's lock for 0.1 s, so they grow apart.
PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
UNSENT = "failed to send response"


def answer_patiently() -> None:
    """Have every service of this process, those of rclpy's own nodes too, send again what was not sent."""
    # Newer rclpy only warns, and returns as if the answer had been sent.
    warnings.filterwarnings("error", message=UNSENT, category=RuntimeWarning)
    send_once = Service.send_response

    def is_sent(service: Service, response: Any, header: Any) -> bool:
        try:
            send_once(service, response, header)
        except (RuntimeError, RuntimeWarning, SystemError) as error:
            # A warning that is made an error inside a C function arrives as the cause of a SystemError.
            if UNSENT not in f"{error} {error.__cause__}":
                raise
            return False
        return True

    def send(service: Service, response: Any, header: Any) -> None:
        if not is_sent(service, response, header):
            threading.Thread(target=send_again, args=(service, response, header), daemon=True).start()

    def send_again(service: Service, response: Any, header: Any) -> None:
        for pause_s in PAUSES_S:
            time.sleep(pause_s)
            try:
                if is_sent(service, response, header):
                    return
            except RuntimeError:
                return  # the node ends
        get_logger("face_mtl_ros").warning(
            f"{service.srv_name}: who called is not discovered after {sum(PAUSES_S):.0f} s, and the answer is lost: "
            "see whether the client's QoS fits the service's"
        )

    Service.send_response = send  # type: ignore[method-assign, assignment]
