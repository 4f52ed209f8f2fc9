"""The program in a training pod: `params` (settings), `agent` (PID 1), `core` (the loop), `recipes` (the models).

The operator imports `params` alone, the agent runs on the standard library alone: nothing is imported here.
"""
