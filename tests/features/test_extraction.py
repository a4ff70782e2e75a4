"""Extractors: against scikit-image and scikit-learn, and blind to all but the training cells."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Configure
from numpy.typing import NDArray
from scipy.fft import dctn
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from skimage.filters import sobel
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from hep2.data.fold import Fold
from hep2.data.inputs import CachedFeatures, CellImages
from hep2.data.views import gradient_magnitude, oriented
from hep2.errors import HEp2Error
from hep2.features import handcrafted
from hep2.features.codebook import Codebook, cell_mask, dct_descriptors, two_regions
from hep2.features.extraction import extraction, features_by, features_of, fitted_extractor
from hep2.features.pixels import PrincipalComponents

TARGET = "hep2.features"
SMALL = {"patch": 8, "stride": 4, "coefficients": 10, "rim": 0.1, "sample": 2000}
CODEBOOK = {"_target_": f"{TARGET}.codebook.Codebook", "descriptor": "dct", "words": 8, **SMALL}
LEARNED: dict[str, dict[str, Any]] = {
    "gmm": {**CODEBOOK, "codebook": "gmm"},
    "kmeans": {**CODEBOOK, "codebook": "kmeans"},
    "sift": {**CODEBOOK, "codebook": "kmeans", "descriptor": "sift"},
    "pca": {"_target_": f"{TARGET}.pixels.PrincipalComponents", "components": 5},
}
PIXELS = {"_target_": f"{TARGET}.pixels.Pixels"}


@pytest.fixture(scope="module")
def image(fold: Fold) -> NDArray[np.float32]:
    picture: NDArray[np.float32] = fold.cells.images[0, 0].astype(np.float32) / 255
    return picture


def altered(fold: Fold, cells: NDArray[np.int64]) -> Fold:
    """The same fold with the images of some cells turned upside down and negated."""
    images = np.array(fold.cells.images)
    images[cells] = 255 - images[cells, :, ::-1]
    return replace(fold, cells=replace(fold.cells, images=images))


def parameters(settings: dict[str, Any], fold: Fold) -> list[NDArray[Any]]:
    return fitted_extractor(settings, fold).fitted()


# --- what is learned is learned from training cells


@pytest.mark.parametrize("name", LEARNED)
def test_other_test_and_validation_images_change_nothing_that_is_learned(
    name: str, fold: Fold
) -> None:
    before = parameters(LEARNED[name], fold)
    held_out = np.concatenate([fold.split.test, fold.split.val])
    after = parameters(LEARNED[name], altered(fold, held_out))
    assert len(before) > 1
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))
    trained = parameters(LEARNED[name], altered(fold, fold.split.train[:40]))
    assert not all(np.array_equal(one, two) for one, two in zip(before, trained, strict=True))


@pytest.mark.parametrize("name", LEARNED)
def test_other_labels_change_nothing_that_is_learned(name: str, fold: Fold) -> None:
    relabelled = replace(fold, cells=replace(fold.cells, labels=fold.cells.labels[::-1].copy()))
    pairs = zip(parameters(LEARNED[name], fold), parameters(LEARNED[name], relabelled), strict=True)
    assert all(np.array_equal(one, two) for one, two in pairs)


def test_features_are_kept_and_follow_their_cells(fold: Fold, tmp_path: Path) -> None:
    pixels, components = extraction(PIXELS, fold), extraction(LEARNED["pca"], fold)
    assert components.learned and not pixels.learned
    matrix = features_by(pixels, fold.cells, tmp_path, 1)
    test = fold.split.test
    rows = CachedFeatures(matrix).of(test).reshape(len(test), 64, 64)
    assert np.allclose(rows, fold.cells.images[test, 0] / 255)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npy")}
    assert np.array_equal(features_by(pixels, fold.cells, tmp_path, 1), matrix)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npy")} == files
    features_by(components, fold.cells, tmp_path, 1)
    assert len(list(tmp_path.glob("*.npy"))) == len(files) + 1


def test_what_serves_one_fold_alone_is_made_of_its_own_cells(
    fold: Fold, configure: Configure, tmp_path: Path
) -> None:
    test, everyone = fold.split.test, np.arange(len(fold.cells))
    fewer = replace(fold, split=replace(fold.split, test=test[:5]))
    settings = {"pca": LEARNED["pca"], "pixels": PIXELS}
    for name, made in (("pca", np.setdiff1d(everyone, test[5:])), ("pixels", everyone)):
        cfg = configure("stage=head", f"features={name}", f"cache_dir={tmp_path}")
        cfg.features.extractor, cfg.features.orientations = settings[name], 1
        matrix = features_of(cfg, fewer).inputs.matrix
        whole = features_by(extraction(settings[name], fold), fold.cells, tmp_path, 1)
        assert np.allclose(matrix[made], whole[made], rtol=0, atol=1e-5)
        assert np.isnan(matrix[np.setdiff1d(everyone, made)]).all()


def test_what_learned_from_other_cells_is_not_found_in_the_cache(
    fold: Fold, tmp_path: Path
) -> None:
    one, two = (
        features_by(extraction(LEARNED["pca"], other), other.cells, tmp_path, 1)
        for other in (fold, altered(fold, fold.split.train[:40]))
    )
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("settings", [PIXELS, LEARNED["gmm"]], ids=["pixels", "codebook"])
def test_features_are_the_mean_over_orientations(
    settings: dict[str, Any], fold: Fold, tmp_path: Path
) -> None:
    transform = extraction(settings, fold)
    images = CellImages(fold.cells).gather(np.arange(len(fold.cells)), epoch=None)
    single = [transform(oriented(images, k)).numpy() for k in range(8)]
    assert np.array_equal(features_by(transform, fold.cells, tmp_path, 1), single[0])
    mean = features_by(transform, fold.cells, tmp_path, 8)
    assert np.allclose(mean, np.mean(single, axis=0), rtol=0, atol=1e-6)
    assert not np.allclose(mean, single[0], atol=1e-3)


@pytest.mark.parametrize("wrong", [0, 9, "all"])
def test_a_square_has_eight_orientations(
    wrong: int | str, fold: Fold, configure: Configure
) -> None:
    asked = configure("stage=head", "features=pixels", f"features.orientations={wrong}")
    with pytest.raises(HEp2Error, match=f"features.orientations={wrong} must be a number from"):
        features_of(asked, fold)


# --- handcrafted descriptors


def test_binary_patterns_are_scikit_image_s(image: NDArray[np.float32]) -> None:
    grey = np.round(image * 255).astype(np.uint8)
    for radius, neighbours in ((1, 8), (2, 16), (3, 24), (5, 24)):
        codes = local_binary_pattern(grey, neighbours, radius, method="uniform")
        found = handcrafted.binary_patterns(grey, radius)
        assert found == pytest.approx([(codes == k).mean() for k in range(neighbours + 2)])


def test_cooccurrences_are_scikit_image_s(image: NDArray[np.float32]) -> None:
    grey = np.round(image * 255).astype(np.uint8)
    found = handcrafted.cooccurrences(grey, [1, 4]).reshape(2, 7, 2)  # mean and range, statistic
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    matrix = graycomatrix(grey // 8, [1, 4], angles, 32, symmetric=True, normed=True)
    contrast = graycoprops(matrix, "contrast")  # (distances, angles)
    assert found[0, 0] == pytest.approx(contrast.mean(axis=1))
    assert found[1, 0] == pytest.approx(contrast.max(axis=1) - contrast.min(axis=1))
    assert found[0, 5] == pytest.approx(graycoprops(matrix, "correlation").mean(axis=1))


def test_the_spectrum_peaks_at_the_frequency_of_a_wave() -> None:
    x = np.arange(64)
    for cycles in (4, 12, 24):
        wave = np.tile(np.sin(2 * np.pi * cycles * x / 64), (64, 1)).astype(np.float32)
        spectrum = handcrafted.radial_spectrum(wave, 32)
        assert len(spectrum) == 32
        assert spectrum.argmax() == pytest.approx(cycles, abs=1)  # 32 rings up to 32 cycles


def test_intensities_are_those_of_the_image(image: NDArray[np.float32]) -> None:
    found = handcrafted.intensities(image, 16)
    assert found[:16].sum() == pytest.approx(1)
    assert found[18] == pytest.approx(np.median(image))
    assert found[21:23] == pytest.approx([image.mean(), image.std()], rel=1e-4)


def test_turning_an_image_changes_only_its_gradients(image: NDArray[np.float32]) -> None:
    extractor = handcrafted.Handcrafted([1, 2], [1], 8, 8)
    upright, turned = extractor.transform(np.stack([image, np.rot90(image)]))
    size = len(handcrafted.gradients(image))
    # Ties in flat places may fall to either side of a neighbour that lies between pixels.
    assert np.allclose(upright[:-size], turned[:-size], rtol=1e-3, atol=5e-3)
    assert not np.allclose(upright[-size:], turned[-size:], atol=5e-2)


def test_a_flat_image_has_finite_descriptors() -> None:
    extractor = handcrafted.Handcrafted([1, 2, 3, 5], [1, 2], 32, 24)
    for value in (0.0, 0.5, 1.0):
        assert np.isfinite(extractor.transform(np.full((1, 64, 64), value, np.float32))).all()


# --- the codebook


def test_dct_descriptors_leave_the_mean_out_and_go_from_low_to_high() -> None:
    patch = np.random.default_rng(0).random((1, 1, 8, 8)).astype(np.float32)
    (found,) = dct_descriptors(patch, 5)
    plain = dctn(patch[0, 0] - patch[0, 0].mean(), norm="ortho") / patch[0, 0].std()
    assert np.allclose(found, [plain[i] for i in ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0))], 1e-4)
    assert np.allclose(dct_descriptors(0.3 * patch + 0.2, 5), found, atol=1e-4)


def test_a_patch_counts_by_its_posterior(image: NDArray[np.float32]) -> None:
    book = Codebook("dct", "gmm", 6, **SMALL)
    book.fit(np.stack([image, image.T]), seed=0)
    mixture = GaussianMixture(6, covariance_type="diag")
    mixture.means_, mixture.precisions_cholesky_ = book.centres, np.sqrt(book.precisions)
    logs = book.offsets - np.log(book.precisions).sum(axis=1) / 2
    mixture.weights_ = np.exp(logs)
    assert mixture.weights_.sum() == pytest.approx(1)
    patches = book._descriptors(image) / book.scale
    assert np.allclose(book._assigned(patches), mixture.predict_proba(patches), atol=1e-5)


def test_a_patch_counts_most_for_its_nearest_centre(image: NDArray[np.float32]) -> None:
    book = Codebook("dct", "kmeans", 6, **SMALL)
    book.fit(image[None], seed=0)
    patches = book._descriptors(image) / book.scale
    distances = ((patches[:, None] - book.centres) ** 2).sum(axis=2)
    assert np.array_equal(book._assigned(patches).argmax(axis=1), distances.argmin(axis=1))


def test_words_are_pooled_by_region(image: NDArray[np.float32]) -> None:
    book = Codebook("dct", "kmeans", 6, **SMALL)
    book.fit(image[None], seed=0)
    (found,) = book.transform(image[None])
    shares = book._assigned(book._descriptors(image) / book.scale).reshape(15, 15, 6)
    inside, rim = two_regions(cell_mask(image), 6.4)
    centres = np.arange(15) * 4 + 4
    for half, region in ((found[:6], inside), (found[6:], rim)):
        assert half == pytest.approx(shares[region[np.ix_(centres, centres)]].mean(axis=0), 1e-4)


def test_the_mask_of_a_disc_is_the_disc() -> None:
    y, x = np.mgrid[:64, :64]
    disc = np.hypot(x - 30, y - 34) < 18
    picture = (0.1 + 0.6 * disc).astype(np.float32)
    picture[30:36, 26:32] = 0.1  # a dark nucleolus is no hole in a cell
    mask = cell_mask(picture)
    assert (mask != disc).mean() < 0.02
    inside, rim = two_regions(mask, 6)
    radius = np.hypot(x - 30, y - 34)
    assert not (inside & rim).any()
    assert inside[radius < 14].all() and not inside[radius > 16].any()
    assert rim[(radius > 16) & (radius < 20)].all() and not rim[(radius < 14) | (radius > 22)].any()


def test_without_a_plausible_cell_the_whole_image_is_one() -> None:
    speck = np.zeros((64, 64), dtype=np.float32)
    assert cell_mask(speck).all()
    inside, rim = two_regions(cell_mask(speck), 8)
    assert (inside ^ rim).all()
    assert inside[32, 32] and rim[0, 0] and rim[32, 1] and not rim[32, 8]


@pytest.mark.parametrize("wrong", [{"descriptor": "surf"}, {"codebook": "fuzzy"}])
def test_an_unknown_codebook_is_named(wrong: dict[str, str]) -> None:
    with pytest.raises(HEp2Error, match="choose dct or sift, and gmm or kmeans"):
        Codebook(**({"descriptor": "dct", "codebook": "gmm", "words": 8, **SMALL} | wrong))


# --- principal components and gradients


def test_components_are_scikit_learn_s(fold: Fold) -> None:
    images = fold.cells.images[:60, 0].astype(np.float32) / 255
    extractor = PrincipalComponents(4)
    extractor.fit(images[:40], seed=0)
    expected = PCA(4).fit(images[:40].reshape(40, -1)).transform(images[40:].reshape(20, -1))
    found = extractor.transform(images[40:])
    assert found.shape == (20, 4)
    assert np.allclose(np.abs(found[:, :2]), np.abs(expected[:, :2]), atol=1e-2)


def test_fewer_cells_than_components() -> None:
    extractor = PrincipalComponents(50)
    extractor.fit(np.random.default_rng(0).random((7, 8, 8), dtype=np.float32), seed=0)
    assert extractor.transform(np.zeros((3, 8, 8), np.float32)).shape == (3, 7)


def test_gradients_are_scikit_image_s(image: NDArray[np.float32]) -> None:
    found = gradient_magnitude(torch.from_numpy(image)[None, None])[0, 0].numpy()
    assert np.allclose(found, sobel(image), atol=1e-6)
    assert found.min() >= 0 and found.max() <= 1
