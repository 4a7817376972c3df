"""The dashboard: pages that show and control runs. Layout and widgets only; everything else is in `lab`."""
