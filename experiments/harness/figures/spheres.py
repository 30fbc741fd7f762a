"""A small renderer: spheres under parallel light, seen along the depth axis."""

import numpy as np

PIXELS = 48  # per Å
LIGHT = np.array([-0.45, 0.55, 0.70]) / np.linalg.norm([-0.45, 0.55, 0.70])
RIM = 0.05  # Å of dark outline


def render(
    centres: np.ndarray,
    depth: np.ndarray,
    radii: np.ndarray,
    colours: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    pixels: int = PIXELS,
) -> np.ndarray:
    """RGBA picture (rows from the top) of the rectangle ``low``-``high``, transparent where empty.

    centres (n, 2), depth (n, growing toward the viewer), radii (n): Å. colours (n, 3): 0 to 1.
    ``pixels`` per Å.
    Each pixel shows the nearest sphere; twice the pixels are computed and averaged.
    """
    fine = 2 * pixels
    width, height = np.maximum(1, np.rint((high - low) * pixels).astype(int))
    picture = np.zeros((2 * height, 2 * width, 4), np.float32)
    nearest = np.full(picture.shape[:2], -np.inf, np.float32)
    x = low[0] + (np.arange(2 * width) + 0.5) / fine
    y = high[1] - (np.arange(2 * height) + 0.5) / fine
    for atom in np.argsort(-(depth + radii), kind="stable"):  # the nearest first: less to overpaint
        (x0, y0), radius = centres[atom], radii[atom]
        columns = slice(*np.searchsorted(x, [x0 - radius, x0 + radius]))
        rows = slice(*np.searchsorted(-y, [-y0 - radius, -y0 + radius]))
        dx, dy = (x[columns] - x0) / radius, (y[rows] - y0) / radius
        squared = (dx**2 + dy[:, None] ** 2).astype(np.float32)
        out = np.sqrt(np.maximum(1 - squared, 0))
        surface = depth[atom] + radius * out
        seen = (squared < 1) & (surface > nearest[rows, columns])
        row, column = np.nonzero(seen)
        facing = LIGHT @ np.stack([dx[column], dy[row], out[seen]])
        rim = squared[seen] > (1 - RIM / radius) ** 2
        picture[rows, columns][seen] = _shade(facing, rim, colours[atom])
        nearest[rows, columns][seen] = surface[seen]
    return _halved(picture)


def _shade(facing: np.ndarray, rim: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """RGBA of points by how much they face the light: diffuse, a soft highlight, a dark rim."""
    facing = np.clip(facing, 0, 1)
    bright = np.where(rim, 0.42, 0.58 + 0.42 * facing)[:, None] * colour
    gloss = np.where(rim, 0, 0.45 * facing**24)[:, None]
    return np.concatenate([bright + gloss * (1 - bright), np.ones_like(gloss)], axis=1)


def _halved(picture: np.ndarray) -> np.ndarray:
    """Averages of two by two pixels, colours weighted by their opacity."""
    picture[..., :3] *= picture[..., 3:]
    rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
    mean = picture.reshape(rows, 2, columns, 2, 4).mean(axis=(1, 3))
    mean[..., :3] /= np.maximum(mean[..., 3:], 1e-6)
    return np.clip(mean, 0, 1)
