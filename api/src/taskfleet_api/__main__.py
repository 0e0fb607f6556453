"""`python -m taskfleet_api`: serves the API as the environment says."""

from taskfleet_api.serving import main

if __name__ == "__main__":
    main()
