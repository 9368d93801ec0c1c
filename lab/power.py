"""What a power controller can do to its host, whatever protocol asks: the verbs behind redfish.py
and ipmi.py.  The controller has a supply of its own: it answers while its host is off, hung or cut
off."""

import asyncio

from .err import LabError

ON, OFF, PAUSED = 'On', 'Off', 'Paused'


class Refused(Exception):
    """The host is in the wrong state for this; the text says which."""


class Power:
    """The switch of one host.  Verbs return when the effect is there, except shut_down(), which
    presses the button and does not wait."""

    def __init__(self, host):
        self.host = host
        self.lock = asyncio.Lock()      # two clients at once get one effect after the other
        self.cause = 'unknown'

    def state(self):
        """On, Off or Paused."""
        if not self.host.proc:
            return OFF
        return PAUSED if self.host.state == 'paused' else ON

    async def on(self):
        """Switch on; on already: no effect."""
        async with self.lock:
            if not self.host.proc:
                await self.host.start()
                self.cause = 'command'

    async def off(self):
        """Pull the plug; off already: no effect."""
        async with self.lock:
            await self.host.kill()

    async def shut_down(self):
        """Press the button."""
        async with self.lock:
            self._need_on()
            await self.host.power_button()

    async def reset(self):
        """The reset line."""
        async with self.lock:
            self._need_on()
            await self.host.reset()
            self.cause = 'reset'

    async def cycle(self):
        """Off, a moment, on."""
        async with self.lock:
            self._need_on()
            await self.host.kill()
            await asyncio.sleep(0.2)
            await self.host.start()
            self.cause = 'cycle'

    async def restart(self):
        """Ask the system in the host to reboot; returns when it was told."""
        async with self.lock:
            self._need_on()
            if self.host.state != 'up':
                raise Refused('the system in %s does not answer' % self.host.name)
            self.host.tell_reboot()
            self.cause = 'soft'

    async def nmi(self):
        """A non-maskable interrupt."""
        async with self.lock:
            self._need_on()
            await self.host.nmi()

    def _need_on(self):
        if not self.host.proc:
            raise Refused('%s is off' % self.host.name)


ERRORS = (Refused, LabError)
