"""The dashboard: pages that show the lab and steer it. Layout and widgets only; everything else is in `lab`."""
