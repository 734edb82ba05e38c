"""Draw docs/images/dashboard.png and run.svg anew: `python -m tests.e2e.monitoring [FOLDER]` (20 s)."""

import sys
from pathlib import Path

from agentic_serving.cli.run_svg import drawn
from tests.e2e.monitoring.board import LABELS, ROOT, draw, replayed
from tests.e2e.monitoring.prometheus import running
from tests.e2e.monitoring.run_story import told_run

text, begin_s, end_s = replayed()
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
(folder / "run.svg").write_text(drawn(told_run()) + "\n", encoding="utf-8")
with running(history=text, labels=LABELS) as prometheus:
    draw(prometheus, begin_s, end_s, folder / "dashboard.png")
print(f"wrote {folder}/dashboard.png and run.svg", file=sys.stderr)
