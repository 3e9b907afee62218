package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

var argv = []string{
	"qemu-system-x86_64", "-name", "banger-00", "-qmp", "unix:/s/vms/a/qmp.sock,server=on", "-smp", "2",
	"-drive", "if=none,id=disk0,file=/s/vms/a/disk.qcow2", "-device", "virtio-blk-device,drive=disk0",
	"-drive", "if=none,id=disk1,file=/s/blobs/m,read-only=on", "-device", "virtio-blk-device,drive=disk1",
	"-drive", "if=none,id=disk2,file=/s/vms/a/work.img", "-device", "virtio-blk-device,drive=disk2",
	"-netdev", "user,id=net,net=10.1.0.0/20,host=10.1.0.1,dns=10.1.0.2,hostfwd=tcp:127.0.0.1:2100-10.1.0.3:5122",
	"-device", "virtio-net-device,netdev=net,mac=02:00:00:00:00:01",
	"-kernel", "/s/blobs/k", "-initrd", "/r/vms/a/i", "-append", "quiet console=ttyS0",
}

func TestModel(t *testing.T) {
	m, err := newModel(argv, "/s/vms/a")
	if err != nil {
		t.Fatal(err)
	}
	if m.addr != "10.1.0.3" || m.gateway != "10.1.0.1" || m.resolver != "10.1.0.2" || m.mac != "02:00:00:00:00:01" {
		t.Errorf("read %+v", m)
	}
	like := strings.Join(m.like("/h", 5, 6, 7), " ")
	for _, want := range []string{"file=/h/disk.qcow2", "id=disk1", "file=/h/work.img", "-initrd /h/initrd", "127.0.0.1:5-10.1.0.3:5122,hostfwd=tcp:127.0.0.1:6-10.1.0.3:22,hostfwd=tcp:127.0.0.1:7-10.1.0.3:1"} {
		if !strings.Contains(like, want) {
			t.Errorf("no %s in %s", want, like)
		}
	}
	stock := m.likeStock("/h", "/stock/k", 7, 8, 1)
	want := []string{
		"qemu-system-x86_64", "-name", "bench", "-qmp", "unix:/h/qmp.sock,server=on", "-smp", "1",
		"-drive", "if=none,id=disk0,file=/h/disk.qcow2", "-device", "virtio-blk-device,drive=disk0",
		"-netdev", "user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:7-10.0.2.15:22,hostfwd=tcp:127.0.0.1:8-10.0.2.15:1",
		"-device", "virtio-net-device,netdev=net,mac=02:00:00:00:00:01",
		"-kernel", "/stock/k", "-initrd", "/h/initrd", "-append", "root=/dev/vda ro quiet console=ttyS0",
	}
	if !slices.Equal(stock, want) {
		t.Errorf("stock is\n%q, want\n%q", stock, want)
	}
	if _, err := newModel([]string{"qemu", "-initrd"}, "/s"); err == nil {
		t.Error("a command line without a network was taken")
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    float64
	}{{[]float64{3}, 3}, {[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := median(c.samples); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.samples, got, c.want)
		}
	}
}

func TestPrint(t *testing.T) {
	r := results{Rows: []row{
		ratio("a", []float64{1, 3, 2}, "b", []float64{1}, 1.05),
		amount("c", []float64{1 << 20}, 1<<20),
		ratio("d", []float64{0.012}, "e", []float64{0.06}, 0),
		notMeasured("f", "needs root"),
	}}
	var b bytes.Buffer
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.00 s", "1.00 s–3.00 s", "≤ 1.05", "missed", "1.0 MiB", "kept", "12.0 ms", "0.20", "f     not measured: needs root"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

func TestChosen(t *testing.T) {
	names := func(only string) (names []string, err error) {
		some, err := chosen(only)
		for _, g := range some {
			names = append(names, g.name)
		}
		return names, err
	}
	all, err := names("")
	if err != nil || len(all) != len(groups) {
		t.Errorf("without a choice: %v, %v", all, err)
	}
	// In the order in which they are measured, whatever was typed.
	if got, err := names("ps,exec"); err != nil || !slices.Equal(got, []string{"exec", "ps"}) {
		t.Errorf("chosen %v, %v", got, err)
	}
	if _, err := chosen("ps,such"); err == nil || !strings.Contains(err.Error(), "such") || !strings.Contains(err.Error(), "boot") {
		t.Errorf("an unknown name: %v", err)
	}
}

func TestRequests(t *testing.T) {
	m := &fcModel{config: map[string]json.RawMessage{
		"machine-config":     json.RawMessage(`{"vcpu_count":1,"mem_size_mib":256}`),
		"boot-source":        json.RawMessage(`{"kernel_image_path":"/s/k","initrd_path":"/r/i","boot_args":"quiet"}`),
		"drives":             json.RawMessage(`[{"drive_id":"disk0","path_on_host":"/dev/dm-1"},{"drive_id":"disk1","path_on_host":"/s/m"},{"drive_id":"disk2","path_on_host":"/s/w"}]`),
		"network-interfaces": json.RawMessage(`[{"iface_id":"1","host_dev_name":"t","guest_mac":"02:00:00:00:00:09"}]`),
	}}
	for _, c := range []struct {
		stock      *stockImage
		puts       int
		has, lacks string
	}{
		{nil, 9, `"{\"drive_id\":\"disk2\",\"path_on_host\":\"work.img\"}"`, "/dev/dm-1"},
		{&stockImage{kernel: "/stock/k"}, 7, `\"boot_args\":\"root=/dev/vda ro quiet\",\"initrd_path\":\"initrd\",\"kernel_image_path\":\"/stock/k\"`, "disk1"},
	} {
		got, err := m.requests(c.stock)
		if err != nil {
			t.Fatal(err)
		}
		text := string(got)
		if strings.Count(text, "request = PUT\n") != c.puts || strings.Count(text, "\nnext\n") != c.puts-1 {
			t.Errorf("not %d requests:\n%s", c.puts, text)
		}
		if !strings.Contains(text, c.has) || strings.Contains(text, c.lacks) || !strings.Contains(text, handTap) || !strings.HasSuffix(text, "InstanceStart\\\"}\"\n") {
			t.Errorf("want %s and not %s in\n%s", c.has, c.lacks, text)
		}
	}
	m.config["drives"] = json.RawMessage(`[]`)
	if _, err := m.requests(nil); err == nil {
		t.Error("a VM without disks was taken")
	}
}
