#!/bin/bash
# Two hosts see each other by name; a cut cable loses carrier and frames; a dead host comes back through
# its power controller.  Judges: ping, ip, curl, ipmitool.
. "$SOURCE/tests/lib.sh"
. "$SOURCE/tests/lab/lib.sh"
requires cmd:curl cmd:ipmitool
lab_up 2 --nics 2

pings() { in_host "$1" "ping -c 2 -i 0.3 -W 20 $2"; }
loses() { ! in_host "$1" "ping -c 2 -i 0.3 -W 1 $2" | tee "$T/ping"; grep -q '100% packet loss' "$T/ping"; }
has_state() { lab ls --json | jq -r --arg h "$1" '.[].hosts[] | select(.name == $h).state' | grep -xE "$2"; }

t "h1 reaches h2 by name on the management network" pings h1 h2
t "h2 reaches h1 by name on the second network" pings h2 h1-net1
t "h1 reaches h2 over IPv6" in_host h1 'ping -6 -c 2 -W 20 h2-net1'
t_eq "a host has its own name" "$(in_host h2 hostname)" h2
t_eq "no packet leaves: there is no default route" "$(in_host h1 'ip route show default; ip -6 route show default')" ""

# The cable
t "cut" lab cut h2 net1
t_eq "the cut card has no carrier" "$(in_host h2 'cat /sys/class/net/eth1/carrier')" 0
t_eq "the other card has" "$(in_host h2 'cat /sys/class/net/eth0/carrier')" 1
t_eq "and so has the peer's" "$(in_host h1 'cat /sys/class/net/eth1/carrier')" 1
t "no ping over the cut cable" loses h1 10.77.1.2
t "pings over the whole one" pings h1 10.77.0.2
# What is sent into the cut card stays there, whatever the host does about the carrier.
in_host h2 'arping -q -c 3 -w 2 -I eth1 10.77.1.1' >/dev/null 2>&1
t "heal" lab heal h2 net1
t_eq "carrier again" "$(in_host h2 'cat /sys/class/net/eth1/carrier')" 1
t "pings again" pings h1 h2-net1
t "all cables at once" lab cut h1
t "silence on the management network" loses h2 10.77.0.1
t "the lab still talks to the host" in_host h1 true
t "healed" lab heal h1
t "pings again" pings h2 h1
t_fails "a card that is not there" lab cut h1 eth7

# Power
eval "$(lab bmc --json h2 | jq -r 'to_entries[] | "bmc_\(.key)=\(.value | @sh)"')"
redfish() { curl -sS --max-time 100 -u "$bmc_user:$bmc_password" "$@"; }
ipmi() { ipmitool -I "${proto:-lanplus}" -N 20 -R 3 -H 127.0.0.1 -p "${bmc_ipmi#*:}" -U "$bmc_user" -P "$bmc_password" "$@"; }
reset() { redfish -f -H 'Content-Type: application/json' -d "{\"ResetType\": \"$1\"}" \
	"$bmc_redfish$bmc_system/Actions/ComputerSystem.Reset"; }
power_state() { redfish "$bmc_redfish$bmc_system" | jq -r .PowerState; }

t_eq "Redfish: the service root names the systems" \
	"$(curl -sS "$bmc_redfish/redfish/v1/" | jq -r '.Systems["@odata.id"]')" /redfish/v1/Systems
t_eq "Redfish: the only system is this host" \
	"$(redfish "$bmc_redfish/redfish/v1/Systems" | jq -r '.Members[]["@odata.id"]')" "$bmc_system"
t_eq "Redfish: no password, no answer" \
	"$(curl -s -o /dev/null -w '%{http_code}' "$bmc_redfish$bmc_system")" 401
t_eq "Redfish: a wrong password" \
	"$(curl -s -o /dev/null -w '%{http_code}' -u admin:wrong "$bmc_redfish$bmc_system")" 401
t_eq "Redfish: the host is on" "$(power_state)" On
t_eq "IPMI 2.0: the host is on" "$(ipmi chassis power status)" "Chassis Power is on"

boot_id=$(in_host h2 'cat /proc/sys/kernel/random/boot_id')
in_host h2 'echo kept >/root/kept; sync'
t "kill" lab kill h2
t "the host is off" has_state h2 off
t_eq "Redfish: the host is off" "$(power_state)" Off
t_eq "IPMI 2.0: the host is off" "$(ipmi chassis power status)" "Chassis Power is off"
t "its neighbour hears nothing" loses h1 10.77.0.2
t_fails "no command runs in it" in_host h2 true
t "Redfish: On" reset On
t_eq "Redfish: the host is on again" "$(power_state)" On
t "the host comes up" in_host h2 true
t "with another boot id" [ "$(in_host h2 'cat /proc/sys/kernel/random/boot_id')" != "$boot_id" ]
t_eq "with what was on its disk" "$(in_host h2 'cat /root/kept')" kept
t "and with its network" pings h1 h2-net1

t_fails "Redfish: an unknown kind of reset" reset Nonsense
t "Redfish: ForceOff" reset ForceOff
t "the host is off" has_state h2 off
t_fails "Redfish: no orderly shutdown of what is off" reset GracefulShutdown
for suite in 3 17; do
	t "IPMI 2.0: on, cipher suite $suite" ipmi -C $suite chassis power on
	t "the host runs" has_state h2 'starting|up'
	t "IPMI 2.0: off, cipher suite $suite" ipmi -C $suite chassis power off
	t "the host is off" has_state h2 off
done
proto=lan t "IPMI 1.5: on" ipmi chassis power on
t_eq "IPMI 1.5: status" "$(proto=lan ipmi chassis power status)" "Chassis Power is on"
t_fails "IPMI: a wrong password" ipmitool -I lanplus -R 1 -N 1 -H 127.0.0.1 -p "${bmc_ipmi#*:}" -U admin -P wrong power off
t_fails "IPMI 1.5: a wrong password" ipmitool -I lan -R 1 -N 1 -H 127.0.0.1 -p "${bmc_ipmi#*:}" -U admin -P wrong power off
t "h1 asks h2's power controller over TLS" in_host h1 \
	"curl -fskS --max-time 100 -u $bmc_user:$bmc_password https://h2-bmc$bmc_system | jq -e '.PowerState == \"On\"'"
t "the host comes up" in_host h2 true
t "an orderly shutdown by the power button" lab poweroff h2
t "h2 is off" has_state h2 off
t_fails "poweroff of what is off" lab poweroff h2

# Fencing is done by hosts
t "poweron" lab poweron --no-wait h2
t "h1 fences h2" in_host h1 "ipmitool -I lanplus -N 20 -R 3 -H h2-bmc -U $bmc_user -P $bmc_password chassis power off"
t "h2 is off" has_state h2 off
done_testing
