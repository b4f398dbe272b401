"""`python -m trainer`, which launchers of several processes can start: `torchrun --nproc-per-node 2 -m trainer run`."""

from trainer.cli import main

if __name__ == "__main__":
    main()
