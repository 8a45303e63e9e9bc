"""What is said about a result: metrics, intervals, paired tests, baselines, calibration, the report."""
