"""Does it pay to clean the ground truth? The paper's figure 7b in small: `python -m benchmarks.gt_cleaning`."""
