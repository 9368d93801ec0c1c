# Disk images of other products, machines in OVA files, and cloud-init's seed.
. "$SOURCE/tests/lib.sh"
requires cmd:qemu-img cmd:qemu-io cmd:isoinfo

cd "$T" || exit 1
S="strata-image -q"
qemu-img create -q -f raw ref.raw 24M
qemu-io -f raw -c 'write -q -P 0xa5 0 1M' -c 'write -q -P 0x5a 9M 70k' -c 'write -q -P 1 23M 1M' ref.raw >/dev/null
for f in qcow2 vmdk vpc vhdx vdi; do
	qemu-img convert -f raw -O $f $([ $f = vpc ] && echo "-o force_size=on") ref.raw theirs.$f
	t "import $f" $S convert theirs.$f ours-$f.qcow2
	t "guest data of $f are equal" qemu-img compare -q -f qcow2 -F raw ours-$f.qcow2 ref.raw
	t "export $f" $S convert ours-qcow2.qcow2 back.$f -O $f
	t "qemu-img reads what was exported" qemu-img compare -q -f $f -F raw back.$f ref.raw
	head -c 300 theirs.$f >damaged.$f
	t_fails "a damaged header of $f is refused" $S convert damaged.$f no.qcow2
	t "nothing is left of it" test ! -e no.qcow2
done
t "import raw" $S convert ref.raw raw.qcow2
t "guest data are equal" qemu-img compare -q -f qcow2 -F raw raw.qcow2 ref.raw

# Images that would read the host.
echo secret >secret
qemu-img create -q -f qcow2 -F raw -b "$T/secret" back.qcow2 1M
t_fails "a backing file is refused" $S convert back.qcow2 no.raw -O raw
t_eq "and named" "$($S convert back.qcow2 no.raw 2>&1 | grep -o 'a backing file')" "a backing file"
t_fails "also when it is called raw by its name" sh -c "cp back.qcow2 evil.raw && $S convert evil.raw no.raw -O raw"
t "said to be raw it is only bytes" $S convert -f raw back.qcow2 bytes.raw -O raw
t "with the same content" cmp -n "$(stat -c %s back.qcow2)" back.qcow2 bytes.raw
qemu-img create -q -f qcow2 -o data_file=data.raw,data_file_raw=on ext.qcow2 1M
t_fails "an external data file is refused" $S convert ext.qcow2 no.raw -O raw
printf '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 1 FLAT "%s" 0\n' "$T/secret" >flat.vmdk
t_fails "a vmdk of other files is refused" $S convert flat.vmdk no.raw -O raw
qemu-img create -q -f vmdk base.vmdk 1M
qemu-img create -q -f vmdk -F vmdk -b "$T/base.vmdk" child.vmdk
t_fails "a vmdk with a parent is refused" $S convert child.vmdk no.raw -O raw
t "none of them made a file" test ! -e no.raw

# OVA
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized ref.raw disk1.vmdk
cat >vm.ovf <<'X'
<?xml version="1.0" encoding="UTF-8"?>
<!-- a machine -->
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="r">
  <References><File ovf:href="disk1.vmdk" ovf:id="file1" ovf:size="1"/></References>
  <DiskSection><Info>d</Info><Disk ovf:capacity="24" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="d1" ovf:fileRef="file1"/></DiskSection>
  <VirtualSystem ovf:id="web &amp; more"><VirtualHardwareSection>
    <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
    <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
    <Item><rasd:ResourceType>10</rasd:ResourceType></Item>
  </VirtualHardwareSection></VirtualSystem>
</Envelope>
X
tar -cf vm.ova vm.ovf disk1.vmdk
t_eq "import an OVA" "$($S ova vm.ova vm)" '{"name":"web & more","cpus":2,"memory":536870912,"nics":1,"disks":1}'
t "its disk" qemu-img compare -q -f qcow2 -F raw vm/disk0.qcow2 ref.raw
t_eq "nothing else is left" "$(ls -A vm)" disk0.qcow2
sed 's/href="disk1.vmdk"/href="..\/secret"/' vm.ovf >evil.ovf
tar -cf evil.ova evil.ovf
t_fails "a disk elsewhere is refused" $S ova evil.ova evil
sed 's/<!-- a machine -->/<!DOCTYPE x [<!ENTITY a SYSTEM "secret">]>/' vm.ovf >dtd.ovf
tar -cf dtd.ova dtd.ovf disk1.vmdk
t_fails "a DTD is refused" $S ova dtd.ova evil
tar -cf out.ova --transform 's,vm.ovf,../x.ovf,' -P vm.ovf
t_fails "names out of the archive are refused" $S ova out.ova evil
t_eq "nothing is left" "$(ls -A evil)" ''

# OVA, the other way
t "export an OVA" $S ova-export machine.ova ref.raw theirs.qcow2 --name 'web & "more" <1>' --cpus 3 --memory 768M --nics 2
t_fails "what exists is not overwritten" $S ova-export machine.ova ref.raw
t_fails "a backing file is refused here too" $S ova-export no.ova back.qcow2
t "nothing is left of it" test ! -e no.ova
mkdir ova && tar -C ova -xf machine.ova
t_eq "the descriptor comes first, then the manifest" "$(tar tf machine.ova | tr '\n' ' ')" "machine.ovf machine.mf machine-disk0.vmdk machine-disk1.vmdk "
t "the manifest's digests are right" sh -c "cd ova && sed 's/SHA256(\(.*\))= \(.*\)/\2  \1/' machine.mf | sha256sum -c --strict"
t_eq "and cover all" "$(wc -l <ova/machine.mf)" 3
for i in 0 1; do
	t "disk $i is stream-optimised" sh -c "qemu-img info ova/machine-disk$i.vmdk | grep -q streamOptimized"
	t "with the same content" qemu-img compare -q -f vmdk -F raw ova/machine-disk$i.vmdk ref.raw
done
t_eq "python reads the descriptor" "$(python3 - ova/machine.ovf <<'X'
import sys, xml.etree.ElementTree as E
o, r = "{http://schemas.dmtf.org/ovf/envelope/1}", "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
t = E.parse(sys.argv[1]).getroot()
ids = {f.get(o + "id") for f in t.iter(o + "File")}
disks = {d.get(o + "diskId"): d for d in t.iter(o + "Disk")}
items = [(i.findtext(r + "ResourceType"), i.findtext(r + "VirtualQuantity"), i.findtext(r + "HostResource"), i.findtext(r + "Parent"),
	i.findtext(r + "InstanceID")) for i in t.iter(o + "Item")]
print(t.find(o + "VirtualSystem").get(o + "id"), [i[1] for i in items if i[0] in "34"], sum(i[0] == "10" for i in items),
	all(d.get(o + "fileRef") in ids and d.get(o + "capacity") == str(24 << 20) for d in disks.values()),
	sorted(i[2] for i in items if i[0] == "17") == ["ovf:/disk/" + d for d in sorted(disks)],
	all(i[3] in {x[4] for x in items} for i in items if i[0] == "17"), len({x[4] for x in items}) == len(items))
X
)" 'web & "more" <1> ['"'3', '768'"'] 2 True True True True'
t_eq "it comes back" "$($S ova machine.ova again)" '{"name":"web & \"more\" <1>","cpus":3,"memory":805306368,"nics":2,"disks":2}'
t "with its disks" qemu-img compare -q -f qcow2 -F raw again/disk1.qcow2 ref.raw

# cloud-init
printf '#cloud-config\npackages: [jq]\nruncmd:\n  - [touch, /x]\n' >user-data
printf 'version: 2\nethernets:\n  eth0: {dhcp4: true}\n' >network-config
t "seed" $S seed seed.iso --instance-id i-1 --hostname h1 --user-data user-data --network-config network-config
t_eq "its files" "$(isoinfo -J -f -i seed.iso | sort | tr '\n' ' ')" "/meta-data /network-config /user-data "
t_eq "user-data" "$(isoinfo -J -x /user-data -i seed.iso)" "$(cat user-data)"
t_eq "network-config" "$(isoinfo -J -x /network-config -i seed.iso)" "$(cat network-config)"
t_eq "meta-data" "$(isoinfo -J -x /meta-data -i seed.iso | tr '\n' ' ')" 'instance-id: "i-1" local-hostname: "h1" '
t_eq "blkid finds the label" "$(blkid -p -s LABEL -o value seed.iso | tr A-Z a-z)" cidata
if command -v cloud-localds >/dev/null && command -v genisoimage >/dev/null; then
	printf 'instance-id: "i-1"\nlocal-hostname: "h1"\n' >meta-data
	cloud-localds -N network-config theirs.iso user-data meta-data 2>/dev/null
	for f in user-data meta-data network-config; do
		t_eq "cloud-localds has the same $f" "$(isoinfo -J -x /$f -i theirs.iso)" "$(isoinfo -J -x /$f -i seed.iso)"
	done
else
	skip "cloud-localds has the same files" "needs cloud-localds"
fi
t "seed from keys" $S seed keys.iso --ssh-key 'ssh-ed25519 AAAA "me: you"' --password-hash '$6$a$b'
isoinfo -J -x /user-data -i keys.iso >made
if command -v cloud-init >/dev/null; then
	t "cloud-init finds it valid" cloud-init schema --config-file made
else
	skip "cloud-init finds it valid" "needs cloud-init"
fi
done_testing
