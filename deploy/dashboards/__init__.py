"""Grafana's dashboards, written in Python; `python -m deploy.dashboards` generates their JSON."""

from .generate import FOLDER, render_all

__all__ = ["FOLDER", "render_all"]
