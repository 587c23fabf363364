"""What the answer to `POST /predict` says of one row that was classified."""

from typing import Any

DIGITS = 6  # behind the point


def predicted(row: list[float], classes: list[str], prediction_id: str) -> dict[str, Any]:
    """Name the class and the share of each; `row` are the probabilities, in the classes' order."""
    best = row.index(max(row))
    shares = [round(value, DIGITS) for value in row]
    return {
        "prediction": classes[best],
        "confidence": shares[best],
        "probabilities": dict(zip(classes, shares, strict=True)),
        "prediction_id": prediction_id,
    }
