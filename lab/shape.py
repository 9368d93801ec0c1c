"""What a host is made of, as the command line gives it, and the parsers of those words."""

import dataclasses
import hashlib
import json
import re

from .err import UsageError

UNITS = {'': 1 << 20, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}
PORTS = 16                              # hot-pluggable slots: cards and disks together


def parse_size(text, what):
    """'2G', '512M', or a plain number of MiB, in bytes."""
    m = re.match(r'([0-9]+(?:\.[0-9]+)?)([KMGT]?)(?:i?B)?\Z', text, re.I)
    size = int(float(m.group(1)) * UNITS[m.group(2).upper()]) if m else 0
    if size <= 0:
        raise UsageError("%s '%s': a size such as 512M or 2G is wanted" % (what, text))
    return size


def parse_count(text, what, low, high):
    """A whole number within bounds."""
    if not re.match(r'[0-9]+\Z', text) or not low <= int(text) <= high:
        raise UsageError("%s '%s': a number from %d to %d is wanted" % (what, text, low, high))
    return int(text)


def parse_disks(text):
    """'2x4G', '10G', '4G,2x1G' or '0': the sizes in bytes, one per disk."""
    sizes = []
    if text in ('', '0'):
        return sizes
    for part in text.split(','):
        m = re.match(r'(?:([0-9]+)x)?(.+)\Z', part)
        if not m:
            raise UsageError("--disks '%s': COUNTxSIZE is wanted, such as 2x4G" % text)
        count = parse_count(m.group(1) or '1', '--disks', 1, PORTS)
        size = parse_size(m.group(2), '--disks')
        if size % 512 or size < 1 << 20:
            raise UsageError("--disks '%s': a disk has at least 1M" % text)
        sizes += [size] * count
    return sizes


@dataclasses.dataclass
class Shape:
    """All hosts of a lab are alike.  A template fits every lab with the same template_words()."""

    memory: int = 2 << 30
    cpus: int = 2
    disks: list = dataclasses.field(default_factory=list)
    nics: int = 2
    accel: str = 'tcg'                  # tcg or kvm
    threads: str = 'single'             # of tcg: single or multi
    numa: int = 1                       # nodes
    iommu: bool = False
    qemu: list = dataclasses.field(default_factory=list)    # more QEMU arguments, as they are

    def check(self):
        """UsageError for what cannot be."""
        if self.nics + len(self.disks) > PORTS:
            raise UsageError('%d cards and %d disks: a host takes %d of both together'
                             % (self.nics, len(self.disks), PORTS))
        if self.memory < 512 << 20 or self.memory % (1 << 20):
            raise UsageError('--memory: at least 512M, in whole MiB')
        if self.cpus % self.numa:
            raise UsageError('--numa %d: %d cpus cannot be split evenly' % (self.numa, self.cpus))

    def template_key(self, image_key, more):
        """The name of the template for this shape; `more` is whatever else it depends on.  Cards
        and disks are plugged into a running clone, so they are not part of it."""
        words = [image_key, self.memory, self.cpus, self.accel, self.threads, self.numa, self.iommu,
                 self.qemu, more]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]

    def dump(self):
        """As plain data."""
        return dataclasses.asdict(self)
