"""From folders of photographs to training shards: one stage a file, each a function `stage(manifest, output, ...)`."""
