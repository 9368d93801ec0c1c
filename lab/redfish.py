"""The Redfish service of one host's power controller.  Specification: DMTF DSP0266 1.15; schemas
DSP8010 (ComputerSystem 1.16, Chassis 1.19, Manager 1.14, SessionService 1.1).

HTTP Basic or a session token (13.3.4).  Only the service root and its version list answer
without."""

import base64
import binascii
import hmac
import json
import os

from . import power
from .http import Response

ROOT = '/redfish/v1'
RESETS = {'On': 'on', 'ForceOn': 'on', 'ForceOff': 'off', 'GracefulShutdown': 'shut_down',
          'PushPowerButton': 'button', 'ForceRestart': 'reset', 'PowerCycle': 'cycle',
          'GracefulRestart': 'restart', 'Nmi': 'nmi'}
MAX_SESSIONS = 16
METADATA = b'''<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0"><edmx:DataServices>
<Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="Service">
<EntityContainer Name="Service" Extends="ServiceRoot.v1_15_0.ServiceContainer"/></Schema>
</edmx:DataServices></edmx:Edmx>
'''


class Redfish:
    """account: (user, password).  handle() is what http.serve() wants."""

    def __init__(self, switch, account):
        self.power = switch
        self.host = switch.host
        self.account = account
        self.sessions = {}              # id -> token
        self.count = 0
        self.system = '%s/Systems/%s' % (ROOT, self.host.name)
        self.chassis = '%s/Chassis/%s' % (ROOT, self.host.name)
        self.manager = ROOT + '/Managers/bmc'

    async def handle(self, request):
        """Answer one request."""
        path = request.path.rstrip('/') or '/'
        response = await self._route(request, path)
        response.headers.setdefault('OData-Version', '4.0')
        response.headers.setdefault('Cache-Control', 'no-cache')
        return response

    async def _route(self, request, path):
        open_to_all = path in ('/redfish', ROOT, ROOT + '/$metadata', ROOT + '/odata')
        sessions = ROOT + '/SessionService/Sessions'
        if request.method == 'POST' and path == sessions:
            return self._log_in(request)
        if not (open_to_all and request.method in ('GET', 'HEAD')) and not self._allowed(request):
            return _error(401, 'NoValidSession', 'There is no valid session established with the '
                          'implementation.', {'WWW-Authenticate': 'Basic realm="lab"'})
        if request.method == 'DELETE' and path.startswith(sessions + '/'):
            if self.sessions.pop(path.rsplit('/', 1)[1], None) is None:
                return _missing(path)
            return Response(204)
        if path == self.system + '/Actions/ComputerSystem.Reset':
            if request.method != 'POST':
                return _not_allowed(request.method, 'POST')
            return await self._reset(request)
        if path == ROOT + '/$metadata':
            return Response(200, METADATA, {'Content-Type': 'application/xml'})
        make = self._resources().get(path)
        if not make:
            return _missing(path)
        if request.method not in ('GET', 'HEAD'):
            more = ', POST' if path == sessions else ''
            return _not_allowed(request.method, 'GET, HEAD' + more)
        return Response(200, make())

    def _allowed(self, request):
        token = request.headers.get('x-auth-token')
        if token is not None:
            return any(hmac.compare_digest(token.encode(), t.encode())
                       for t in self.sessions.values())
        scheme, _, word = request.headers.get('authorization', '').partition(' ')
        if scheme.lower() != 'basic':
            return False
        try:
            given = base64.b64decode(word, validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(given, ':'.join(self.account).encode())

    def _log_in(self, request):
        try:
            body = request.json()
            given = '%s:%s' % (body['UserName'], body['Password'])
        except (ValueError, KeyError):
            return _error(400, 'PropertyMissing', 'UserName and Password are required.')
        if not hmac.compare_digest(given.encode(), ':'.join(self.account).encode()):
            return _error(401, 'ResourceAtUriUnauthorized', 'The credentials are wrong.')
        while len(self.sessions) >= MAX_SESSIONS:       # the oldest goes
            del self.sessions[next(iter(self.sessions))]
        self.count += 1
        name, token = str(self.count), binascii.hexlify(os.urandom(16)).decode()
        self.sessions[name] = token
        body = self._session(name)
        return Response(201, body, {'X-Auth-Token': token, 'Location': body['@odata.id']})

    async def _reset(self, request):
        try:
            kind = request.json().get('ResetType', 'On')
        except ValueError as e:
            return _error(400, 'MalformedJSON', 'The request body: %s.' % e)
        if kind not in RESETS:
            return _error(400, 'ActionParameterNotSupported',
                          "The value '%s' of ResetType is not one of %s."
                          % (kind, ', '.join(RESETS)))
        verb = RESETS[kind]
        if verb == 'button':            # what the button does depends on the state
            verb = 'on' if self.power.state() == power.OFF else 'shut_down'
        try:
            await getattr(self.power, verb)()
        except power.Refused as e:
            return _error(409, 'ResourceInUse', '%s: %s.' % (kind, e))
        except power.ERRORS as e:
            return _error(500, 'InternalError', '%s: %s.' % (kind, e))
        return Response(204)

    # ---- resources

    def _resources(self):
        table = {
            '/redfish': lambda: {'v1': ROOT + '/'},
            ROOT: self._root,
            ROOT + '/odata': self._odata,
            ROOT + '/Systems': lambda: _collection(
                'ComputerSystemCollection', ROOT + '/Systems', 'Computer Systems', [self.system]),
            self.system: self._system,
            self.system + '/EthernetInterfaces': lambda: _collection(
                'EthernetInterfaceCollection', self.system + '/EthernetInterfaces',
                'Ethernet Interfaces',
                ['%s/EthernetInterfaces/eth%d' % (self.system, nic['n'])
                 for nic in self.host.nics()]),
            ROOT + '/Chassis': lambda: _collection(
                'ChassisCollection', ROOT + '/Chassis', 'Chassis', [self.chassis]),
            self.chassis: self._chassis,
            ROOT + '/Managers': lambda: _collection(
                'ManagerCollection', ROOT + '/Managers', 'Managers', [self.manager]),
            self.manager: self._manager,
            ROOT + '/SessionService': self._session_service,
            ROOT + '/SessionService/Sessions': lambda: _collection(
                'SessionCollection', ROOT + '/SessionService/Sessions', 'Sessions',
                ['%s/SessionService/Sessions/%s' % (ROOT, s) for s in self.sessions]),
        }
        for name in self.sessions:
            table['%s/SessionService/Sessions/%s' % (ROOT, name)] = lambda n=name: self._session(n)
        for nic in self.host.nics():
            table['%s/EthernetInterfaces/eth%d' % (self.system, nic['n'])] = \
                lambda n=nic: self._interface(n)
        return table

    def _root(self):
        return dict(_head('ServiceRoot.v1_15_0.ServiceRoot', ROOT + '/', 'RootService',
                          'Root Service'),
                    RedfishVersion='1.15.0', UUID=self.host.uuid(), Product='Strata lab',
                    Systems=_link(ROOT + '/Systems'), Chassis=_link(ROOT + '/Chassis'),
                    Managers=_link(ROOT + '/Managers'),
                    SessionService=_link(ROOT + '/SessionService'),
                    Links={'Sessions': _link(ROOT + '/SessionService/Sessions')})

    def _odata(self):
        return {'@odata.context': ROOT + '/$metadata', 'value': [
            {'name': name, 'kind': 'Singleton', 'url': '%s/%s' % (ROOT, name)}
            for name in ('Systems', 'Chassis', 'Managers', 'SessionService')]}

    def _system(self):
        shape = self.host.lab.shape
        state = self.power.state()
        return dict(
            _head('ComputerSystem.v1_16_0.ComputerSystem', self.system, self.host.name,
                  'Lab host ' + self.host.name),
            SystemType='Virtual', UUID=self.host.uuid(), HostName=self.host.name,
            Manufacturer='Strata', Model='lab', PowerState=state,
            Status={'State': 'Disabled' if state == power.OFF else 'Enabled', 'Health': 'OK'},
            ProcessorSummary={'Count': shape.cpus},
            MemorySummary={'TotalSystemMemoryGiB': shape.memory / (1 << 30)},
            EthernetInterfaces=_link(self.system + '/EthernetInterfaces'),
            Links={'Chassis': [_link(self.chassis)], 'ManagedBy': [_link(self.manager)]},
            Actions={'#ComputerSystem.Reset': {
                'target': self.system + '/Actions/ComputerSystem.Reset',
                'ResetType@Redfish.AllowableValues': list(RESETS)}})

    def _interface(self, nic):
        path = '%s/EthernetInterfaces/eth%d' % (self.system, nic['n'])
        return dict(_head('EthernetInterface.v1_8_0.EthernetInterface', path, 'eth%d' % nic['n'],
                          'Network card %d' % nic['n']),
                    MACAddress=nic['mac'], PermanentMACAddress=nic['mac'],
                    LinkStatus='LinkDown' if nic['n'] in self.host.cut or not self.host.proc
                    else 'LinkUp')

    def _chassis(self):
        return dict(_head('Chassis.v1_19_0.Chassis', self.chassis, self.host.name, 'Lab host'),
                    ChassisType='StandAlone', PowerState='Off' if self.power.state() == power.OFF
                    else 'On', Status={'State': 'Enabled', 'Health': 'OK'},
                    Links={'ComputerSystems': [_link(self.system)],
                           'ManagedBy': [_link(self.manager)]})

    def _manager(self):
        return dict(_head('Manager.v1_14_0.Manager', self.manager, 'bmc', 'Power controller'),
                    ManagerType='BMC', PowerState='On', Status={'State': 'Enabled', 'Health': 'OK'},
                    Links={'ManagerForServers': [_link(self.system)],
                           'ManagerForChassis': [_link(self.chassis)]})

    def _session_service(self):
        path = ROOT + '/SessionService'
        return dict(_head('SessionService.v1_1_8.SessionService', path, 'SessionService',
                          'Session Service'),
                    ServiceEnabled=True, Sessions=_link(path + '/Sessions'))

    def _session(self, name):
        path = '%s/SessionService/Sessions/%s' % (ROOT, name)
        return dict(_head('Session.v1_5_0.Session', path, name, 'User Session'),
                    UserName=self.account[0])


def _head(kind, path, name, text):
    return {'@odata.type': '#' + kind, '@odata.id': path, 'Id': name, 'Name': text}


def _link(path):
    return {'@odata.id': path}


def _collection(kind, path, text, members):
    return {'@odata.type': '#%s.%s' % (kind, kind), '@odata.id': path, 'Name': text,
            'Members@odata.count': len(members), 'Members': [_link(m) for m in members]}


def _error(status, code, text, headers=None):
    """DSP0266 8.6: the error response."""
    info = {'@odata.type': '#Message.v1_1_2.Message', 'MessageId': 'Base.1.13.' + code,
            'Message': text, 'Severity': 'Critical'}
    return Response(status, {'error': {'code': 'Base.1.13.' + code, 'message': text,
                                       '@Message.ExtendedInfo': [info]}}, headers or {})


def _missing(path):
    return _error(404, 'ResourceMissingAtURI', 'The resource at the URI %s was not found.'
                  % json.dumps(path))


def _not_allowed(method, allow):
    return _error(405, 'OperationNotAllowed', '%s is not allowed here.' % method, {'Allow': allow})
