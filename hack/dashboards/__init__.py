"""The Grafana dashboards as code: one module for each, `building` has the parts. Written by generate_dashboards.py."""
