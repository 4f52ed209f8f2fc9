"""`make demo`: the main job, from no cluster to a saved model that predicts."""
