"""Names of metrics."""

import pytest

from manifests import metrics
from manifests.errors import UserError


def test_columns_are_legal_names():
    assert metrics.column("clipiqa+") == "iqa.clipiqa_plus"
    assert metrics.column("clipiqa+_vitL14_512") == "iqa.clipiqa_plus_vitl14_512"
    columns = [metrics.column(name) for name in metrics.NO_REFERENCE]
    assert len(set(columns)) == len(columns)


def test_names_are_pyiqas():
    import pyiqa

    need_more_than_one_image = {"fid", "fid_dinov2", "sfid", "inception_score", "clipscore"}
    assert set(metrics.NO_REFERENCE) == set(pyiqa.list_models(metric_mode="NR")) - need_more_than_one_image


def test_directions_are_pyiqas():
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    for name, metric in metrics.NO_REFERENCE.items():
        assert metric.higher_is_better == (not DEFAULT_CONFIGS[name].get("lower_better", False)), name


def test_unknown_name_suggests():
    with pytest.raises(UserError, match="did you mean musiq"):
        metrics.known("musik")
