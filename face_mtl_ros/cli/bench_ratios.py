"""The ratios that a reader of face-mtl bench asks for first, from what it measured."""

from collections.abc import Iterator


def ratios(result: dict) -> Iterator[dict]:
    """For each preset, where both sides were measured: `ratio` as text, of what (`what`) and at which `batch`.

    "Ours" is the engine that `auto` takes.

    Args:
        result: what face-mtl bench --json prints.
    """
    auto = result["machine"].get("auto")
    for preset in dict.fromkeys(entry["preset"] for entry in result["inference"]):
        entries = [entry for entry in result["inference"] if entry["preset"] == preset]
        yield from _of_the_product(preset, entries, result["machine"]["gemm_gflops"])
        if not auto:
            continue
        ours = {e["batch"]: e for e in entries if all(e[key] == value for key, value in auto.items())}
        name = f"ours ({preset}, {auto['engine']} {auto['precision']})"
        for e in entries:
            if (e["engine"], e["device"], e["precision"], e["batch"]) == ("torch", "cpu", "fp32", 1) and 1 in ours:
                yield _times(f"ms: eager torch fp32 / {name}", 1, e["median_ms"], ours[1]["median_ms"])
        if {1, 8} <= set(ours):
            what = f"faces/s: {name}, batch 8 / batch 1"
            yield _times(what, 8, ours[8]["faces_per_s"], ours[1]["faces_per_s"])
        for batch in sorted({1, 8} & set(ours)):
            for peer in _fastest_peers(result["peers"], batch):
                what = f"ms: {peer['peer']} by {peer['runtime']} / {name}"
                yield _times(what, batch, peer["median_ms"], ours[batch]["median_ms"])


def _of_the_product(preset: str, entries: list[dict], rates: dict[str, float]) -> Iterator[dict]:
    """The fastest engine of each precision and batch, as share of torch's product on the same kind of device."""
    for precision in dict.fromkeys(entry["precision"] for entry in entries):
        for kind, product in (("cpu", f"torch {precision}"), ("cuda", f"torch cuda {precision}")):
            own = [e for e in entries if e["precision"] == precision and e["device"].lower().startswith(kind)]
            for batch in dict.fromkeys(e["batch"] for e in own) if product in rates else ():
                best = max((e for e in own if e["batch"] == batch), key=lambda e: e["gflops"])
                what = f"GFLOP/s: {preset}'s fastest in {precision} ({best['engine']}) / product by {product}"
                yield {"what": what, "batch": batch, "ratio": f"{best['gflops'] / rates[product]:.0%}"}


def _fastest_peers(peers: list[dict], batch: int) -> list[dict]:
    own = [entry for entry in peers if entry["batch"] == batch]
    names = dict.fromkeys(entry["peer"] for entry in own)
    return [min((e for e in own if e["peer"] == name), key=lambda e: e["median_ms"]) for name in names]


def _times(what: str, batch: int, left: float, right: float) -> dict:
    return {"what": what, "batch": batch, "ratio": f"{left / right:.2f}"}
