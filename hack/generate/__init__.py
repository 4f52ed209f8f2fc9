"""What is generated from the types: the CRDs, their copies in the chart, and the reference pages."""
