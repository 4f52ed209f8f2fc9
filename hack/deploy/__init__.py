"""Build the images, install the chart: what the demo and the end-to-end tests do in the same way."""
