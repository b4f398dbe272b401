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
from trainer import checkpoint, clustered, evaluate, metrics, models, tables, tiling
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


def _rows_by_group(result: evaluate.Evaluation, task: str) -> list[list[int]]:
    mine = [one for one in result.images if one.task == task and one.metric == "psnr"]
    return [[k for k, one in enumerate(mine) if one.group == group] for group in ("china", "flower")]


def _scored(group: str | None, lq: float | None, value: float | None) -> evaluate.Scored:
    return evaluate.Scored("p", "d", "sr", "", "psnr", lq, value, group)


def test_standard_errors_are_over_groups_and_gains_are_paired() -> None:
    rng = np.random.default_rng(0)
    level = np.repeat(rng.normal(30, 5, 6), 10)  # scenes differ a lot, their gains hardly
    lq = level + rng.normal(0, 0.5, 60)
    value = lq + 2 + np.repeat(rng.normal(0, 0.3, 6), 10)
    groups = [f"g{k // 10}" for k in range(60)]
    (row,) = evaluate.summarise([_scored(*one) for one in zip(groups, lq, value, strict=True)])
    assert (row.n, row.groups) == (60, 6)
    assert row.se == pytest.approx(np.std(value.reshape(6, 10).mean(1), ddof=1) / np.sqrt(6))
    assert row.gain == pytest.approx((value - lq).mean())
    assert row.gain_se == pytest.approx(np.std((value - lq).reshape(6, 10).mean(1), ddof=1) / np.sqrt(6))
    assert row.gain_se < row.se / 4, "the gain is known better than the level"
    (own,) = evaluate.summarise([_scored(f"g{k}", *one) for k, one in enumerate(zip(lq, value, strict=True))])
    assert own.se == pytest.approx(np.std(value, ddof=1) / np.sqrt(60)), "an image a group: the usual one"
    assert row.se > 2.5 * own.se, "crops of one scene are not independent"


def test_unequal_groups_follow_the_cluster_robust_formula() -> None:
    values, groups = [1.0, 2.0, 3.0, 10.0], ["a", "a", "a", "b"]
    mean, error, count = clustered.mean_and_error(values, groups)
    assert (mean, count) == (4.0, 2)
    assert error == pytest.approx(np.sqrt(2 / 1 * ((-6) ** 2 + 6**2)) / 4)  # sums of residuals: -6 and 6


def test_one_group_has_no_standard_error_and_unknown_groups_are_said() -> None:
    (one,) = evaluate.summarise([_scored("a", 20, 21), _scored("a", 20, 25)])
    assert (one.groups, one.se, one.gain, one.gain_se) == (1, None, 3.0, None)
    (unknown,) = evaluate.summarise([_scored("a", 20, 21), _scored(None, 20, 25)])
    assert unknown.groups is None and unknown.se == pytest.approx(2.0)
    (no_input,) = evaluate.summarise([_scored("a", None, 21), _scored("b", None, 25)])
    assert (no_input.lq, no_input.gain, no_input.gain_se, no_input.groups) == (None, None, None, 2)
    (part,) = evaluate.summarise([_scored("a", 20, 21), _scored("b", 20, None), _scored("c", 10, 13)])
    assert (part.n, part.groups, part.gain) == (2, 2, 2.0)


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
        by_group = np.reshape([np.array(values)[list(rows)] for rows in _rows_by_group(result, task)], (2, 4))
        assert found.groups == 2
        assert found.se == pytest.approx(np.std(by_group.mean(axis=1), ddof=1) / np.sqrt(2)), "equal groups: of means"
        gains = [one.value - one.lq for one in result.images if one.task == task and one.metric == "psnr"]
        assert found.gain == pytest.approx(np.mean(gains))
        means = [np.mean([gains[k] for k in rows]) for rows in _rows_by_group(result, task)]
        assert found.gain_se == pytest.approx(np.std(means, ddof=1) / np.sqrt(2))
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
    assert header[:6] == ["task", "dataset", "images", "groups", "psnr", "psnr (input)"]
    assert header[6:8] == ["psnr (gain)", "psnr (gain SE)"]
    tasks = sorted({one.task for one in result.images})
    assert [row[0] for row in rows] == [*tasks, "mean"]
    first = [one.value for one in result.images if one.task == tasks[0] and one.metric == "psnr"]
    assert rows[0][2:5] == ["8", "2", f"{np.mean(first):.2f}"]
    summary = next(row for row in result.table if row.task == tasks[0] and row.metric == "psnr")
    assert [float(cell) for cell in rows[0][6:8]] == pytest.approx([summary.gain, summary.gain_se], abs=6e-3)
    assert rows[-1][7] == "–", "rows share scenes, so their mean has no standard error"
    assert md.startswith("| task | dataset |") and "fingerprint" in md
    assert tex.count(r"\\") == len(rows) + 1 and r"\toprule" in tex and tex.count(r"\midrule") == 2
    assert csv.splitlines()[0].startswith("task,dataset,images,groups,psnr")
    for path in (str(paths[0]), str(tmp_path / "t.docx")):
        with pytest.raises(UserError):
            tables.check_path(path)
