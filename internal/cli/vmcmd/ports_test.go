package vmcmd_test

import (
	"net/netip"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
)

func TestSetPublish(t *testing.T) {
	for args, want := range map[string]string{
		"--publish 8080:80":                   `{"vm":"web","publish":[{"host":"127.0.0.1:8080","guest":80,"protocol":"tcp"}]}`,
		"--publish none":                      `{"vm":"web","publish":[]}`,
		"--unpublish 8080 --unpublish 53/udp": `{"vm":"web","unpublish":[{"port":8080,"protocol":"tcp"},{"port":53,"protocol":"udp"}]}`,
		"--unpublish 8080 --add-publish 0.0.0.0:8080:80 --add-publish 1:1/udp": `{"vm":"web","add_publish":[{"host":"0.0.0.0:8080","guest":80,"protocol":"tcp"},{"host":"127.0.0.1:1","guest":1,"protocol":"udp"}],"unpublish":[{"port":8080,"protocol":"tcp"}]}`,
		"--isolated":       `{"vm":"web","isolated":true}`,
		"--isolated=false": `{"vm":"web","isolated":false}`,
	} {
		s := newSession(t, map[string]any{api.VMSet: banger.VM{Spec: banger.Spec{Name: "web"}}})
		if err := s.run(t.Context(), append([]string{"vm", "set", "web"}, strings.Fields(args)...)...); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		if got := s.requests(); got != api.VMSet+" "+want {
			t.Errorf("%s: sent\n%s, want\n%s", args, got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	ports := []banger.Publish{
		{Host: netip.MustParseAddrPort("127.0.0.1:8080"), Guest: 80, Proto: banger.TCP},
		{Host: netip.MustParseAddrPort("0.0.0.0:5353"), Guest: 53, Proto: banger.UDP},
	}
	vm := banger.VM{Spec: banger.Spec{Name: "web", Publish: ports}}
	half, open := vm, vm
	half.OpenPorts = []banger.OpenPort{{Publish: ports[1], By: "bangerd", Note: "no nft_socket"}}
	open.OpenPorts = []banger.OpenPort{{Publish: ports[0], By: "bangerd"}, {Publish: ports[1], By: "kernel"}}
	const head = "HOST            GUEST  PROTOCOL  OPEN  BY\n"
	for _, c := range []struct {
		vm         banger.VM
		args       string
		want, note string
	}{
		{open, "", head + "127.0.0.1:8080  80     tcp       yes   bangerd\n0.0.0.0:5353    53     udp       yes   kernel\n", ""},
		{half, "", head + "127.0.0.1:8080  80     tcp       no    -\n0.0.0.0:5353    53     udp       yes   bangerd\n", "led by bangerd alone: no nft_socket"},
		{vm, "", head + "127.0.0.1:8080  80     tcp       no    -\n0.0.0.0:5353    53     udp       no    -\n", ""},
		{banger.VM{}, "-o json", "[]\n", ""},
		{half, "-o json", `[
  {
    "host": "127.0.0.1:8080",
    "guest": 80,
    "protocol": "tcp",
    "open": false
  },
  {
    "host": "0.0.0.0:5353",
    "guest": 53,
    "protocol": "udp",
    "open": true,
    "by": "bangerd",
    "note": "no nft_socket"
  }
]
`, "led by"},
	} {
		s := newSession(t, map[string]any{api.VMShow: c.vm})
		if err := s.run(t.Context(), append([]string{"vm", "ports", "web"}, strings.Fields(c.args)...)...); err != nil {
			t.Fatal(err)
		}
		if got := s.out.String(); got != c.want {
			t.Errorf("vm ports %s:\n%s\nwant\n%s", c.args, got, c.want)
		}
		if got := s.err.String(); !strings.Contains(got, c.note) || (got == "") != (c.note == "") {
			t.Errorf("vm ports %s says %q", c.args, got)
		}
	}
	s := newSession(t, map[string]any{api.VMShow: vm})
	s.io.Quiet = true
	if err := s.run(t.Context(), "vm", "ports", "web"); err != nil || s.out.String() != "127.0.0.1:8080:80\n0.0.0.0:5353:53/udp\n" {
		t.Errorf("quiet: %q, %v", s.out, err)
	}
}
