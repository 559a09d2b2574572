from hypothesis import settings

settings.register_profile("machine", deadline=None)  # a busy machine is no failure
settings.load_profile("machine")
