"""What should happen, for each kind: pure functions from a view of the world and the time to a plan.

No I/O, no clock, no randomness. Data planes and compute adapters come in as arguments (`ports`). Three things hold for
every decision, and are tested as properties: it changes nothing once its own plan is carried out, it converges from
every prefix of that plan, and it is then silent.
"""
