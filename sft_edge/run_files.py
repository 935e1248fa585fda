"""The names of the files of a run's folder. It knows nothing of what is in them."""

START_FILE = "run.json"
"""While the run goes on: its options and its session's name."""

HISTORY_FILE = "history.jsonl"
JOB_FILE = "job.json"
METRICS_FILE = "metrics.json"
EDGE_FILE = "edge.safetensors"
REPORT_FILE = "report.html"
LOCK_FILE = ".lock"
