"""The metrics of MEGA-Bench by family; `registry` maps the official names to them."""
