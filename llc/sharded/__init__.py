"""Models larger than a device: FSDP2 shards them, and the sampler works on local shards."""

from llc.sharded.estimate import estimate
from llc.sharded.shards import shard

__all__ = ["estimate", "shard"]
