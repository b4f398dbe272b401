"""Every layout on its dataset's naming in miniature: file names as the datasets have them, not as our patterns do."""

import json

import pytest
from typer.testing import CliRunner

from curate import cli, layouts
from curate.ingest import ingest

# layout -> pairs of (LQ, GT); None for a photograph alone, or for one to be restored that has no GT
TREES = {
    "ITS": [("hazy/1_1_0.90179.png", "clear/1.png"), ("hazy/1_2_0.97842.png", "clear/1.png")],
    "OTS": [("hazy/0005_0.8_0.04.jpg", "clear/0005.jpg")],
    "SOTS": [
        ("indoor/hazy/1400_1.png", "indoor/gt/1400.png"),
        ("outdoor/hazy/0001_0.8_0.2.jpg", "outdoor/gt/0001.png"),
    ],
    "Dense-HAZE": [("hazy/01_hazy.png", "GT/01_GT.png")],
    "NH-HAZE": [("01_hazy.png", "01_GT.png")],
    "O-HAZE": [("hazy/01_outdoor_hazy.jpg", "GT/01_outdoor_GT.jpg")],
    "RS-Cloud": [("input/1.png", "target/1.png")],
    "Rain100L": [("rainy/rain-001.png", "norain-001.png")],
    "Rain100H": [("rainy/rain-001.png", "norain-001.png")],
    "Rain13K": [("train/Rain13K/input/1.jpg", "train/Rain13K/target/1.jpg")],
    "RainDrop": [
        ("train/data/0_rain.png", "train/gt/0_clean.png"),
        ("test_a/data/0_rain.png", "test_a/gt/0_clean.png"),
    ],
    "HQ-NightRain": [("input/1.png", "target/1.png")],
    "UAV-Rain1k": [("train/input/1.png", "train/target/1.png"), ("test/input/2.png", "test/target/2.png")],
    "Snow100K": [("all/synthetic/a_01.jpg", "all/gt/a_01.jpg"), ("Snow100K-L/synthetic/b.jpg", "Snow100K-L/gt/b.jpg")],
    "WeatherBench": [("train/rain/input/1.png", "train/rain/target/1.png")],
    "CDD11": [
        ("CDD-11_train/low_haze/00001.png", "CDD-11_train/clear/00001.png"),
        ("CDD-11_test/snow/00002.png", "CDD-11_test/clear/00002.png"),
    ],
    "GoPro": [("train/GOPR0372_07_00/blur/000047.png", "train/GOPR0372_07_00/sharp/000047.png")],
    "HIDE": [("test/HIDE/input/1fromGOPR0950.png", "test/HIDE/target/1fromGOPR0950.png")],
    "RealBlur": [
        (
            "RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001/blur/blur_1.png",
            "RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001/gt/gt_1.png",
        )
    ],
    "REDS": [("train/train_blur/000/00000000.png", "train/train_sharp/000/00000000.png")],
    "4KRD": [("input/1.png", "target/1.png")],
    "DPDD": [("train_c/source/1P0A0917.png", "train_c/target/1P0A0917.png")],
    "LOL": [("our485/low/2.png", "our485/high/2.png"), ("eval15/low/1.png", "eval15/high/1.png")],
    "LOL-v2": [
        ("Real_captured/Train/Low/low00001.png", "Real_captured/Train/Normal/normal00001.png"),
        ("Synthetic/Test/Low/r00816405t.png", "Synthetic/Test/Normal/r00816405t.png"),
    ],
    "LSRW": [("Training data/Huawei/low/2.jpg", "Training data/Huawei/high/2.jpg")],
    "UHD-LL": [("training_set/input/1778_UHD_LL.JPG", "training_set/gt/1778_UHD_LL.JPG")],
    "SIDD": [
        (
            "Data/0001_001_S6_00100_00060_3200_L/0001_NOISY_SRGB_010.PNG",
            "Data/0001_001_S6_00100_00060_3200_L/0001_GT_SRGB_010.PNG",
        )
    ],
    "PolyU": [("Canon5D2_5_160_3200_bike_1_real.JPG", "Canon5D2_5_160_3200_bike_1_mean.JPG")],
    "BSD68": [(None, "test001.png")],
    "BSD400": [(None, "test_001.png")],
    "WED": [(None, "00001.bmp")],
    "Kodak24": [(None, "kodim01.png")],
    "McMaster": [(None, "1.tif")],
    "Flickr2K": [(None, "Flickr2K_HR/000001.png")],
    "LSDIR": [(None, "0001000/0000001.png")],
    "Set5": [("image_SRF_2/img_001_SRF_2_LR.png", "image_SRF_2/img_001_SRF_2_HR.png")],
    "Set14": [("image_SRF_4/img_001_SRF_4_LR.png", "image_SRF_4/img_001_SRF_4_HR.png")],
    "Urban100": [("image_SRF_2/img_001_SRF_2_LR.png", "image_SRF_2/img_001_SRF_2_HR.png")],
    "DIV2K": [("DIV2K_train_LR_bicubic/X2/0001x2.png", "DIV2K_train_HR/0001.png")],
    "RealSR": [("Canon/Train/2/Canon_001_LR2.png", "Canon/Train/2/Canon_001_HR.png")],
    "DRealSR": [("Test_x2/test_LR/DSC_1286_x1.png", "Test_x2/test_HR/DSC_1286_x2.png")],
    "FoundIR-test": [
        ("01Blur/LQ/0001.png", "01Blur/GT/0001.png"),
        ("20Lowlight_Noise_JPEG/LQ/1451.png", "20Lowlight_Noise_JPEG/GT/1451.png"),
    ],
    "FoundIR": [("02Blur_Noise/LQ/0001.png", "02Blur_Noise/GT/0001.png")],
    "SID": [
        ("Sony/short/00001_00_0.1s.png", "Sony/long/00001_00_10s.png"),
        ("Sony/short/00001_01_0.04s.png", "Sony/long/00001_00_10s.png"),
        ("Sony/short/10003_00_0.1s.png", "Sony/long/10003_00_10s.png"),
        ("Sony/short/20001_00_0.04s.png", "Sony/long/20001_00_10s.png"),
    ],
    "RealPhoto60": [("RealPhoto60/01.png", None)],
    "RealDeg": [("film/01.png", None), ("old photo/a.jpg", None)],
}  # fmt: skip
FORMATS = {"tif": "TIFF", "jpg": "JPEG", "JPG": "JPEG", "PNG": "PNG", "png": "PNG", "bmp": "BMP"}


def test_every_layout_has_a_tree():
    assert set(TREES) == set(layouts.names())


@pytest.mark.parametrize("name", sorted(TREES))
def test_a_layout_finds_the_pairs_of_its_dataset(name, photographs, save, tmp_path):
    pictures = list(photographs.values())
    paths = sorted({path for pair in TREES[name] for path in pair if path})
    for index, path in enumerate(paths):
        save(f"d/{path}", pictures[index % len(pictures)][:32, :48], format=FORMATS[path.rpartition(".")[2]])
    rows = ingest(str(tmp_path / "d"), str(tmp_path / "m"), layout=name, check_pairs=False).table().to_pylist()
    assert {(row["lq_path"], row["gt_path"]) for row in rows if row["status"] == "kept"} == set(TREES[name])
    assert all(row["group"] and row["subtask"] and row["license"] for row in rows)
    tasks = {"deblur", "dehaze", "denoise", "derain", "desnow", "jpeg", "low_light", "sr", "clean", "mixed"}
    assert {row["task"] for row in rows} <= tasks


def test_the_list_says_what_is_confirmed():
    rows = json.loads(CliRunner().invoke(cli.app, ["layouts", "--json"]).stdout)
    assert {row["name"] for row in rows} == set(TREES)
    by_name = {row["name"]: row for row in rows}
    assert by_name["FoundIR-test"] | {"license": ""} == {
        "name": "FoundIR-test",
        "tasks": ["deblur", "dehaze", "denoise", "derain", "jpeg", "low_light", "mixed"],
        "splits": ["test"],
        "pairs": 1500,
        "verified": True,
        "license": "",
        "homepage": "https://github.com/House-Leo/FoundIR",
    }
    assert by_name["Rain100L"]["pairs"] == 100  # three arrangements of the same pairs
    assert not by_name["RS-Cloud"]["verified"]
