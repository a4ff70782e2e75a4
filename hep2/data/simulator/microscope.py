"""A microscope for synthetic cells: from the traits of cells to 8-bit images, many at a time.

A nucleus (ellipse with a low-order Fourier perturbation) is stained as its pattern asks, blurred by
a point spread with a sharp and an out-of-focus part, and recorded with shot and read noise. It is
numpy in double precision without BLAS, so neither the number of threads nor their order can change
a byte; between processors the last bit of a cosine may differ, which 8-bit rounding nearly always
hides.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from hep2.data.simulator.patterns import CellTraits, Floats

Directions = NDArray[np.complex128]  # unit vectors x + iy
FIELD = 64.0  # the width of the field in the unit of all lengths
HARMONICS = 3  # of the outline: 2, 3 and 4 waves around it
EDGE = 0.7  # softness of a structure's edge, in 64ths of the field
RESAMPLING = 0.75  # blur of bringing cells to one size, which noise shares; 64ths of the field
OUT_OF_FOCUS = 6.0  # standard deviation of the haze, in 64ths of the field


@dataclass(frozen=True)
class Outline:
    """The outlines of n nuclei; every array has n rows."""

    centre: Floats  # (n, 2): x, y from the middle of the field
    radius: Floats  # (n,)
    elongation: Floats  # (n,)
    angle: Floats  # (n,), radians
    ripple: Floats  # (n, 3) relative amplitudes of the harmonics
    phase: Floats  # (n, 3), radians

    def edge(self, direction: Directions) -> Floats:
        """Distance from the centre to the outline along unit vectors x + iy, shape (n, ...)."""
        wide = (slice(None),) + (None,) * (direction.ndim - 1)
        turned = (direction**2 * np.exp(-2j * self.angle)[wide]).real  # cos 2 (theta - angle)
        stretch = self.elongation[wide]
        ellipse = 1 / np.sqrt((1 + turned) / (2 * stretch) + (1 - turned) / 2 * stretch)
        ripple = self.ripple * np.exp(1j * self.phase)  # (n, 3)
        power, outline = direction, np.ones(direction.shape)
        for column in range(ripple.shape[1]):  # harmonics 2, 3, 4
            power = power * direction
            outline += (power * ripple[:, column][wide]).real
        return np.asarray(self.radius[wide] * ellipse * outline)

    def depth(self, grid: Floats) -> Floats:
        """0 at the centre, 1 on the outline, more outside. Shape: (n, H, W)."""
        x = grid[None, None, :] - self.centre[:, 0, None, None]
        y = grid[None, :, None] - self.centre[:, 1, None, None]
        distance = np.hypot(x, y)
        direction = np.asarray(x + 1j * y, np.complex128) / np.maximum(distance, 1e-9)
        return np.asarray(distance / self.edge(direction))


def photograph(traits: CellTraits, size: int, rng: Generator) -> NDArray[np.uint8]:
    """Image the cells of one specimen: (n, size, size), the same field for any size."""
    margin = size // 8  # light blurs into the field from beyond its border
    width = size + 2 * margin
    grid: Floats = (np.arange(width, dtype=np.float64) + 0.5 - width / 2) * (FIELD / size)
    light = _specimen_light(traits, grid, rng)
    sharp, far = _blur(light, traits.blur, grid), _blur(light, traits.blur + OUT_OF_FOCUS, grid)
    haze = traits.haze[:, None, None]
    image = _record(np.maximum((1 - haze) * sharp + haze * far, 0), traits, grid, rng)
    return image[:, margin : margin + size, margin : margin + size]


def _specimen_light(traits: CellTraits, grid: Floats, rng: Generator) -> Floats:
    """What the cells emit, before the optics. Shape: (n, H, W)."""
    column = {name: value[:, None, None] for name, value in vars(traits).items()}
    nucleus = _draw_outline(traits, rng)
    depth = nucleus.depth(grid)
    inside = _step((1 - depth) * column["radius"])
    thickness = 1 - column["dome"] * (1 - np.sqrt(np.clip(1 - depth**2, 0, 1)))
    grain, spots = _grain(traits, grid, rng), _spots(traits, nucleus, grid, rng)
    nucleoli = _nucleoli(traits, nucleus, grid, rng)
    light = column["diffuse"] * thickness * grain + column["spot_light"] * spots
    light = light * (1 - column["dark"] * nucleoli) + column["bright"] * nucleoli
    body = _step((1.5 - depth) * column["radius"] / 4)
    nearby = _neighbour(traits, nucleus, grid, rng) * grain
    nearby *= column["diffuse"] + 0.3 * column["spot_light"]
    tilt = rng.normal(0, 0.004, (2, len(traits.radius), 1, 1))
    slope = 1 + tilt[0] * grid[None, None, :] + tilt[1] * grid[None, :, None]
    outside = column["background"] * slope + column["cytoplasm"] * body
    return np.asarray(light * inside + nearby * (1 - inside) + outside)


def _draw_outline(traits: CellTraits, rng: Generator) -> Outline:
    cells = len(traits.radius)
    return Outline(
        centre=rng.normal(0, 0.8, (cells, 2)),
        radius=traits.radius,
        elongation=traits.elongation,
        angle=rng.uniform(0, np.pi, cells),
        ripple=traits.wobble[:, None] * rng.standard_normal((cells, HARMONICS)),
        phase=rng.uniform(0, 2 * np.pi, (cells, HARMONICS)),
    )


def _neighbour(traits: CellTraits, nucleus: Outline, grid: Floats, rng: Generator) -> Floats:
    """Where a neighbouring nucleus lies, if there is one. Shape: (n, H, W)."""
    cells = len(traits.radius)
    present = rng.uniform(size=cells) < traits.neighbour
    direction = rng.uniform(0, 2 * np.pi, cells)
    distance = 2 * traits.radius + rng.uniform(0.5, 8, cells)
    offset = distance[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)
    moved = replace(_draw_outline(traits, rng), centre=nucleus.centre + offset)
    shape = _step((1 - moved.depth(grid)) * traits.radius[:, None, None])
    return np.asarray(shape * (present * rng.uniform(0.5, 1.1, cells))[:, None, None])


def _grain(traits: CellTraits, grid: Floats, rng: Generator) -> Floats:
    """The texture of the diffuse stain, mean 1. Shape: (n, H, W)."""
    noise = rng.standard_normal((len(traits.radius), len(grid), len(grid)))
    smooth = _blur(noise, traits.grain_size, grid)
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    return np.asarray(np.maximum(1 + traits.grain[:, None, None] * smooth, 0))


def _spots(traits: CellTraits, nucleus: Outline, grid: Floats, rng: Generator) -> Floats:
    """Gaussian spots whose typical one has height 1. Shape: (n, H, W)."""
    cells, width, pixel = len(traits.radius), len(grid), grid[1] - grid[0]
    most = int(traits.spots.max())
    places = _places(nucleus, most, 0.94, rng)
    heights = np.exp(rng.normal(0, 0.35, (cells, most)))
    heights *= np.arange(most) < traits.spots[:, None]
    position = (places - grid[0]) / pixel  # (n, most, 2) in pixels of the grid
    corner = np.clip(np.floor(position).astype(np.int64), 0, width - 2)
    part = position - corner
    points = np.zeros(cells * width * width)
    first = np.arange(cells)[:, None] * width * width
    for right, down in product((0, 1), repeat=2):
        share_x = part[..., 0] if right else 1 - part[..., 0]
        share_y = part[..., 1] if down else 1 - part[..., 1]
        pixels = first + (corner[..., 1] + down) * width + corner[..., 0] + right
        weights = heights * share_x * share_y
        points += np.bincount(pixels.ravel(), weights.ravel(), len(points))
    peak = 2 * np.pi * (traits.spot_size[:, None, None] / pixel) ** 2  # a Gaussian's volume
    return np.asarray(peak * _blur(points.reshape(cells, width, width), traits.spot_size, grid))


def _nucleoli(traits: CellTraits, nucleus: Outline, grid: Floats, rng: Generator) -> Floats:
    """Round bodies inside the nucleus, 1 within and 0 without. Shape: (n, H, W)."""
    most = int(traits.nucleoli.max())
    places = _places(nucleus, most, 0.65, rng)
    radii = traits.nucleolus_size[:, None] * np.exp(rng.normal(0, 0.25, places.shape[:2]))
    union = np.zeros((len(radii), len(grid), len(grid)))
    for index in range(most):
        x = grid[None, None, :] - places[:, index, 0, None, None]
        y = grid[None, :, None] - places[:, index, 1, None, None]
        body = _step(radii[:, index, None, None] - np.hypot(x, y))
        union = np.maximum(union, body * (index < traits.nucleoli)[:, None, None])
    return union


def _places(nucleus: Outline, count: int, depth: float, rng: Generator) -> Floats:
    """Points spread evenly over the nucleus as far out as `depth`. Shape: (n, count, 2)."""
    theta = rng.uniform(-np.pi, np.pi, (len(nucleus.radius), count))
    direction = np.exp(1j * theta)
    place = depth * np.sqrt(rng.uniform(size=theta.shape)) * nucleus.edge(direction) * direction
    return np.asarray(nucleus.centre[:, None] + np.stack([place.real, place.imag], axis=-1))


def _step(distance: Floats) -> Floats:
    """A soft step: 0 outside (negative distance), 1 inside."""
    return np.asarray(0.5 * (1 + np.tanh(distance / (2 * EDGE))))


def _blur(images: Floats, sigma: Floats, grid: Floats) -> Floats:
    """Gaussian blur with one standard deviation an image, in 64ths of the field."""
    spacing = float(grid[1] - grid[0])
    rows, columns = np.fft.fftfreq(len(grid), spacing), np.fft.rfftfreq(len(grid), spacing)
    squared = rows[:, None] ** 2 + columns[None, :] ** 2
    transfer = np.exp(-2 * (np.pi * sigma[:, None, None]) ** 2 * squared)
    return np.fft.irfft2(np.fft.rfft2(images) * transfer, s=images.shape[1:])


def _record(field: Floats, traits: CellTraits, grid: Floats, rng: Generator) -> NDArray[np.uint8]:
    """Expose for the specimen, then add shot noise, read noise and the 8-bit scale."""
    highlight = np.median(np.quantile(field, 0.995, axis=(1, 2)))
    level = (traits.exposure * traits.strength)[:, None, None] * field / highlight
    photons = traits.photons[:, None, None]
    signal = rng.poisson(level * photons) / photons
    signal += traits.read_noise[:, None, None] * rng.standard_normal(signal.shape)
    resampled = _blur(signal, np.full(len(signal), RESAMPLING), grid)
    return np.clip(np.rint(255 * resampled), 0, 255).astype(np.uint8)
