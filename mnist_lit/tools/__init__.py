"""Uses of a trained network: figures, TensorBoard's pictures, report, demo page, export."""
