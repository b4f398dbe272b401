"""PSNR and SSIM against scikit-image; the evaluation of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from manifests import images
from manifests.errors import UserError
from trainer import checkpoint, evaluate, metrics, models, tables, tiling
from trainer.ema import EMA
from trainer.stream.index import open_index


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=255
    )


@pytest.mark.parametrize("name", ["astronaut", "coffee", "flower"])
def test_psnr_and_ssim_agree_with_scikit_image(name: str, photographs: dict[str, np.ndarray]) -> None:
    gt = photographs[name][:150, :170]
    noisy = np.clip(gt + np.random.default_rng(0).normal(0, 20, gt.shape), 0, 255).astype(np.uint8)
    assert metrics.psnr(noisy, gt) == pytest.approx(peak_signal_noise_ratio(gt, noisy), abs=1e-9)
    assert metrics.ssim(noisy, gt) == pytest.approx(_ssim(gt, noisy), abs=1e-9)


def test_metrics_at_their_ends(photographs: dict[str, np.ndarray]) -> None:
    gt = photographs["coffee"][:40, :40]
    assert metrics.psnr(gt, gt) == 100.0
    assert metrics.ssim(gt, gt) == pytest.approx(1.0)
    assert metrics.ssim(gt[:10], gt[:10]) is None


def test_metric_names() -> None:
    assert metrics.load("psnr").higher_is_better
    assert not metrics.load("piqe").higher_is_better
    with pytest.raises(UserError, match="did you mean"):
        metrics.load("lpipps")


class Double(torch.nn.Module):
    """Something whose tiles must agree exactly: a pointwise function."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (40, 50), (65, 129), (200, 97)])
@pytest.mark.parametrize(("tile", "overlap"), [(32, 8), (32, 0), (33, 31), (64, 64)])
def test_tiles_cover_every_pixel_once(size: tuple[int, int], tile: int, overlap: int) -> None:
    lq = np.random.default_rng(1).random((*size, 3), dtype=np.float32)
    np.testing.assert_allclose(tiling.restore(Double(), lq, tile=tile, overlap=overlap), lq * 0.5, atol=1e-6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint whose average is the untrained model: noise, but a model."""
    torch.manual_seed(3)
    model = models.build("nafnet", "tiny", width=4)
    with torch.no_grad():
        model.ending.weight.mul_(0.1)  # type: ignore[union-attr, operator]
    said = {"model": {"name": "nafnet", "preset": "tiny", "options": {"width": 4}}}
    optimizer = torch.optim.AdamW(model.parameters())
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    checkpoint.save(str(folder), 7, model=model, ema=EMA(model, 0.9).average, optimizer=optimizer, state=said, keep=1)
    return str(folder.parent)


def test_evaluation_is_what_one_computes_by_hand(saved: str, manifest: str) -> None:
    result = evaluate.evaluate(saved, manifest, metrics=["psnr", "ssim"], device="cpu")
    index = open_index(manifest, "test")
    model = checkpoint.load_model(checkpoint.find(saved), "cpu")
    for number in (0, len(index.rows) - 1):
        row, pair = index.rows[number], index.load(number)
        lq = torch.from_numpy(images.to_float(evaluate.enlarge(pair.lq, pair.gt))).permute(2, 0, 1)[None]
        with torch.inference_mode():
            out = model(lq).clamp(0, 1).mul(255).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
        mine = {one.metric: one for one in result.images if one.pair_id == row.pair_id}
        assert mine["psnr"].value == pytest.approx(peak_signal_noise_ratio(pair.gt, out), abs=1e-3)
        assert mine["ssim"].value == pytest.approx(_ssim(pair.gt, out), abs=1e-3)
    for task in index.tasks:
        values = [one.value for one in result.images if one.task == task and one.metric == "psnr"]
        found = next(row for row in result.table if row.task == task and row.metric == "psnr")
        assert found.n == 8 and found.value == pytest.approx(np.mean(values))
        assert found.se == pytest.approx(np.std(values, ddof=1) / np.sqrt(8))
    written = json.loads(Path(result.path).read_text())
    assert written["conventions"]["fingerprint"] == result.conventions["fingerprint"]
    table = pq.read_table(result.path.replace(".json", ".parquet"))
    assert table.num_rows == len(index.rows) * 2
    with pytest.raises(UserError, match="exists already"):
        evaluate.evaluate(saved, manifest, device="cpu")


def test_metrics_without_weights_are_missing_and_never_zero(
    saved: str, manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyiqa

    def absent(name: str, **_: object) -> None:
        raise OSError(f"no weights for {name}")

    monkeypatch.setattr(pyiqa, "create_metric", absent)
    metrics._pyiqa.cache_clear()
    out = str(tmp_path / "e.json")
    result = evaluate.evaluate(saved, manifest, metrics=["psnr,lpips"], device="cpu", output=out)
    assert "no weights for lpips" in result.missing["lpips"]
    assert {row.metric for row in result.table} == {"psnr"}
    with pytest.raises(UserError, match="not available"):
        evaluate.evaluate(saved, manifest, metrics=["lpips"], device="cpu", output=str(tmp_path / "f.json"))
    metrics._pyiqa.cache_clear()


def test_an_output_that_is_not_finite_is_an_error(manifest: str) -> None:
    model = Double()
    model.factor.data.fill_(float("nan"))
    index = open_index(manifest, "ref")
    with pytest.raises(UserError, match="not finite"):
        evaluate.score(model, index, {task: [metrics.load("psnr")] for task in index.tasks})


def test_luma_and_border_are_those_of_the_field(photographs: dict[str, np.ndarray]) -> None:
    """Y as in MATLAB's rgb2ycbcr, and skimage's numbers on the cropped luma."""
    from skimage import color
    from skimage import metrics as peers

    gt = photographs["coffee"][:120, :150]
    rng = np.random.default_rng(0)
    restored = np.clip(gt + rng.normal(0, 12, gt.shape), 0, 255).round().astype(np.uint8)
    y = [color.rgb2ycbcr(one)[4:-4, 4:-4, 0] for one in (restored, gt)]
    psnr, ssim = (metrics.load(name, channel="y", border=4) for name in ("psnr", "ssim"))
    assert psnr.measure(restored, gt) == pytest.approx(
        peers.peak_signal_noise_ratio(y[1], y[0], data_range=255), abs=1e-9
    )
    expected = peers.structural_similarity(
        y[1], y[0], data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim.measure(restored, gt) == pytest.approx(expected, abs=1e-3)
    assert "Y alone" in psnr.convention and "4 pixels cut off" in ssim.convention
    assert metrics.load("psnr", border=60).measure(restored, gt) is None  # nothing is left
    for wrong in ({"channel": "v"}, {"border": -1}):
        with pytest.raises(UserError):
            metrics.load("psnr", **wrong)


def test_the_table_of_a_paper(saved: str, manifest: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"t{suffix}" for suffix in (".md", ".tex", ".csv")]
    result = evaluate.evaluate(saved, manifest, split="ref", output=str(tmp_path / "e.json"), table=str(paths[0]))
    for path in paths[1:]:
        tables.write(result, str(path))
    md, tex, csv = (path.read_text() for path in paths)
    header, rows = tables.cells(result)
    assert header[:5] == ["task", "dataset", "images", "psnr", "psnr (input)"]
    tasks = sorted({one.task for one in result.images})
    assert [row[0] for row in rows] == [*tasks, "mean"]
    first = [one.value for one in result.images if one.task == tasks[0] and one.metric == "psnr"]
    assert rows[0][3] == f"{np.mean(first):.2f}"
    assert md.startswith("| task | dataset |") and "fingerprint" in md
    assert tex.count(r"\\") == len(rows) + 1 and r"\toprule" in tex and tex.count(r"\midrule") == 2
    assert csv.splitlines()[0].startswith("task,dataset,images,psnr")
    for path in (str(paths[0]), str(tmp_path / "t.docx")):
        with pytest.raises(UserError):
            tables.check_path(path)
