"""Write every dashboard's JSON into deploy/grafana/dashboards."""

from .generate import FOLDER, render_all

for name, text in render_all().items():
    (FOLDER / name).write_text(text)
