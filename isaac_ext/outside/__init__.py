"""What runs outside Isaac Sim, in the engine's own Python: install, doctor, selfcheck, generate, pictures.

It is not installed into Isaac Sim, and imports nothing of Kit.
"""
