"""One timed computation, as a result keeps it; nothing here loads torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One timed computation.

    Attributes:
        part: ``routing``, ``network``, or the name of a part of the network.
        what: ``forward``, ``forward + backward`` or ``training step``.
        implementation: Implementation of routing; empty if there is no routing.
        gradient: ``exact`` or ``detached`` through routing; empty if there is none.
        iterations: Iterations of routing; 0 if the network has its own number.
        image_size: Side of the images in pixels.
        asked: Images at a time that the settings ask for.
        batch: Images at a time that fitted into memory; 0 if not even one did.
        precision: ``fp32`` or ``bf16``.
        seconds: The shortest time.
        peak_bytes: The most bytes that tensors took, beyond weights and inputs.
        flops_share: Operations that the reference needs, per second of the time taken, as a share of the machine's
            rate in a product of matrices of this dtype.
        bytes_share: Bytes of inputs, weights and outputs (three times as many with the backward pass), per second of
            the time taken, as a share of the machine's rate of copying.
        eager_seconds: The shortest time of a call from Python, where ``seconds`` is of a CUDA graph; else 0.
    """

    part: str
    what: str
    implementation: str = ""
    gradient: str = ""
    iterations: int = 0
    image_size: int
    asked: int
    batch: int
    precision: str
    seconds: float
    peak_bytes: int
    flops_share: float
    bytes_share: float
    eager_seconds: float = 0.0
