package privileged_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"banger"
	"banger/internal/network"
	"banger/internal/privileged"
)

const good = `{"protocol":2,"op":"network.set","network":{"names":20053,"tag":"beef","subnet":"10.77.16.0/20","taps":[{"vm":"0a1b2c3d","address":"10.77.16.3","isolated":true,"nat":true}]}}`

const goodDisk = `{"protocol":2,"op":"disk.attach","disk":{"tag":"beef","vm":"0a1b2c3d","size_bytes":1024}}`

// A root disk's requests, the descriptors that each comes with, and what differs
// from a good one in one thing.
func TestDisk(t *testing.T) {
	for msg, files := range map[string]int{
		goodDisk:                           2,
		`{"protocol":2,"op":"disk.probe"}`: 1,
		`{"protocol":2,"op":"disk.detach","disk":{"tag":"beef","vm":"0a1b2c3d"}}`: 0,
		`{"protocol":2,"op":"disk.status","disk":{"tag":"beef","vm":"0a1b2c3d"}}`: 0,
	} {
		for n := range 4 {
			_, err := privileged.ParseRequest([]byte(msg), n)
			if want := map[bool]banger.Code{true: "", false: banger.Invalid}[n == files]; banger.CodeOf(err) != want {
				t.Errorf("%s with %d descriptors: %v", msg, n, err)
			}
		}
	}
	for name, edit := range map[string][2]string{
		"no disk":           {`"disk":{`, `"disk":null,"x":{`},
		"a disk too few":    {`,"disk":{"tag":"beef","vm":"0a1b2c3d","size_bytes":1024}`, ``},
		"a disk too many":   {`disk.attach`, `disk.probe`},
		"a network as well": {`"disk"`, `"network":{"tag":"beef","subnet":"10.77.16.0/20","taps":[]},"disk"`},
		"tag with a path":   {`beef`, `../x`},
		"VM with a path":    {`0a1b2c3d`, `../../ab`},
		"VM in capitals":    {`0a1b2c3d`, `0A1B2C3D`},
		"no size":           {`1024`, `0`},
		"less than none":    {`1024`, `-512`},
		"a size to detach":  {`disk.attach`, `disk.detach`},
		"more than int64":   {`1024`, `9223372036854775808`},
		"a path":            {`"vm"`, `"path":"/dev/sda","vm"`},
		"a uid":             {`"vm"`, `"uid":0,"vm"`},
	} {
		msg := strings.Replace(goodDisk, edit[0], edit[1], 1)
		if msg == goodDisk {
			t.Fatalf("%s: nothing was edited", name)
		}
		for n := range 3 { // whatever comes with it
			if _, err := privileged.ParseRequest([]byte(msg), n); banger.CodeOf(err) != banger.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestGood(t *testing.T) {
	r, err := privileged.ParseRequest([]byte(good), 0)
	if err != nil || r.Network.Names != 20053 || !reflect.DeepEqual(r.Network.Taps[0], network.Tap{VM: "0a1b2c3d", Addr: netip.MustParseAddr("10.77.16.3"), Isolated: true, NAT: true}) {
		t.Errorf("%+v %v", r, err)
	}
	const old = `{"protocol":1,"op":"network.set","network":{"tag":"beef","subnet":"10.77.16.0/20","taps":[{"vm":"0a1b2c3d","address":"10.77.16.3","isolated":true}]}}`
	if o, err := privileged.ParseRequest([]byte(old), 0); err != nil || !reflect.DeepEqual(o.Network.Taps[0], network.Tap{VM: "0a1b2c3d", Addr: netip.MustParseAddr("10.77.16.3"), Isolated: true}) {
		t.Errorf("of protocol 1: %+v %v", o, err)
	}
	if b, err := json.Marshal(r.In(1)); err != nil || string(b) != old {
		t.Errorf("in protocol 1: %s, %v", b, err)
	}
	for _, op := range []string{"network.probe", "kvm.allow", "kvm.revoke", "root.exit"} {
		if _, err := privileged.ParseRequest([]byte(`{"protocol":2,"op":"`+op+`"}`), 0); err != nil {
			t.Error(op, err)
		}
	}
	for _, subnet := range []string{"10.0.0.0/16", "172.16.0.0/28", "172.31.255.240/28", "192.168.0.0/16", "100.64.0.0/16", "100.127.0.0/16"} {
		if err := privileged.CheckSubnet(netip.MustParsePrefix(subnet)); err != nil {
			t.Error(subnet, err)
		}
	}
}

// Ports of the host for guests: what may be, and is nothing that rules could be made
// to mean otherwise.
func TestAllow(t *testing.T) {
	allow := func(ports string) string {
		return strings.Replace(good, `"nat":true`, `"nat":true,"allow":[`+ports+`]`, 1)
	}
	r, err := privileged.ParseRequest([]byte(allow(`{"port":5432,"protocol":"tcp"},{"port":53,"protocol":"udp"}`)), 0)
	if err != nil || fmt.Sprint(r.Network.Taps[0].Allow) != "[5432 53/udp]" {
		t.Errorf("%+v, %v", r, err)
	}
	var most []string
	for n := range network.MaxAllow {
		most = append(most, fmt.Sprintf(`{"port":%d,"protocol":"udp"}`, n+60000))
	}
	if _, err := privileged.ParseRequest([]byte(allow(strings.Join(most, ","))), 0); err != nil {
		t.Error(err)
	}
	var taps []string
	for n := range privileged.MaxTaps {
		ports := strings.Join(most, ",")
		if n >= network.MaxAllowAll/network.MaxAllow {
			ports = ""
		}
		taps = append(taps, fmt.Sprintf(`{"vm":"%08x","address":"10.77.%d.%d","isolated":false,"nat":false,"allow":[%s]}`, n, 16+(n+9)>>8, (n+9)&255, ports))
	}
	full := strings.Replace(good, `{"vm":"0a1b2c3d","address":"10.77.16.3","isolated":true,"nat":true}`, strings.Join(taps, ","), 1)
	led := strings.TrimSuffix(strings.Repeat(`{"vm":"00000001","guest":65535},`, network.MaxPorts), ",")
	whole := strings.Replace(full, `}]}}`, `}],"ports":[`+led+`]}}`, 1)
	if _, err := privileged.ParseRequest([]byte(whole), network.MaxPorts); err != nil || len(whole) > privileged.MaxMessage {
		t.Errorf("as many as may be, %d bytes: %v", len(whole), err)
	}
	if _, err := privileged.ParseRequest([]byte(strings.Replace(full, `"allow":[]`, `"allow":[{"port":1,"protocol":"tcp"}]`, 1)), 0); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("one more in all: %v", err)
	}
	for _, bad := range []string{
		`{"port":0,"protocol":"tcp"}`, `{"port":65536,"protocol":"tcp"}`, `{"port":-1,"protocol":"tcp"}`, `{"port":80,"protocol":"sctp"}`,
		`{"port":80}`, `{"port":80,"protocol":"TCP"}`, `{"port":"80","protocol":"tcp"}`, `{"port":80,"protocol":"tcp","host":"127.0.0.1"}`, `80`, `"80"`, `null`, `{}`,
		`{"port":80,"protocol":"tcp"},{"port":80,"protocol":"tcp"}`, strings.Join(most, ",") + `,{"port":1,"protocol":"tcp"}`,
	} {
		if _, err := privileged.ParseRequest([]byte(allow(bad)), 0); banger.CodeOf(err) != banger.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
	c := network.Config{Tag: "beef", Subnet: netip.MustParsePrefix("10.77.16.0/20"), Taps: []network.Tap{{VM: "0a1b2c3d", Addr: netip.MustParseAddr("10.77.16.3"), Allow: []banger.HostPort{{Port: 80, Proto: "icmp"}}}}}
	if err := privileged.CheckConfig(c); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("no protocol: %v", err)
	}
}

// Ports come with a socket each, of VMs that have taps.
func TestPorts(t *testing.T) {
	good := strings.Replace(good, `}]}}`, `}],"ports":[{"vm":"0a1b2c3d","guest":80},{"vm":"0a1b2c3d","guest":53}]}}`, 1)
	for n := range 5 {
		r, err := privileged.ParseRequest([]byte(good), n)
		if want := map[bool]banger.Code{true: "", false: banger.Invalid}[n == 2]; banger.CodeOf(err) != want {
			t.Errorf("%d descriptors: %v", n, err)
		}
		if b, jerr := json.Marshal(r.In(1)); n == 2 && (jerr != nil || strings.Contains(string(b), "ports")) {
			t.Errorf("in protocol 1: %s, %v", b, jerr)
		}
	}
	for name, edit := range map[string][2]string{
		"another VM's": {`"vm":"0a1b2c3d","guest":53`, `"vm":"0a1b2c3e","guest":53`},
		"port 0":       {`:53`, `:0`},
		"no port":      {`:53`, `:65536`},
		"an address":   {`"guest":53`, `"guest":53,"host":"0.0.0.0:22"`},
		"a protocol":   {`"guest":53`, `"guest":53,"protocol":"tcp"`},
		"no list":      {`[{"vm":"0a1b2c3d","guest":80},{"vm":"0a1b2c3d","guest":53}]`, `2`},
		"another op":   {`network.set`, `network.probe`},
		"no VMs":       {`"taps":[`, `"taps":[],"x":[`},
	} {
		msg := strings.Replace(good, edit[0], edit[1], 1)
		if msg == good {
			t.Fatalf("%s: nothing was edited", name)
		}
		if _, err := privileged.ParseRequest([]byte(msg), 2); banger.CodeOf(err) != banger.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	var c network.Config
	if err := json.Unmarshal([]byte(`{"tag":"beef","subnet":"10.77.16.0/20","taps":[{"vm":"0a1b2c3d","address":"10.77.16.3"}]}`), &c); err != nil {
		t.Fatal(err)
	}
	for n := range network.MaxPorts + 1 {
		if err := privileged.CheckConfig(c); err != nil {
			t.Fatal(n, err)
		}
		c.Ports = append(c.Ports, network.Port{VM: "0a1b2c3d", Guest: 80})
	}
	if err := privileged.CheckConfig(c); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("%d ports: %v", len(c.Ports), err)
	}
}

// A field that a banger-root does not know is a later banger's: it says what to do.
func TestUnknownField(t *testing.T) {
	_, err := privileged.ParseRequest([]byte(`{"protocol":2,"op":"network.probe","later":1}`), 0)
	if e := banger.AsError(err); e == nil || e.Code != banger.Invalid || !strings.Contains(e.Message, "later") || !strings.Contains(e.Remedy, "banger-root") {
		t.Errorf("%+v", e)
	}
}

// Each of these differs from the good one in one thing.
func TestBad(t *testing.T) {
	var many []string
	for n := range privileged.MaxTaps + 1 {
		many = append(many, fmt.Sprintf(`{"vm":"%08x","address":"10.77.%d.%d","isolated":false,"nat":true}`, n, 16+(n+9)>>8, (n+9)&255))
	}
	for name, edit := range map[string][2]string{
		"not JSON":             {`{"protocol"`, `"protocol"`},
		"another protocol":     {`"protocol":2`, `"protocol":3`},
		"no protocol":          {`"protocol":2,`, ``},
		"protocol 0":           {`"protocol":2`, `"protocol":0`},
		"later field":          {`"protocol":2`, `"protocol":1`},
		"NAT is no word":       {`"nat":true`, `"nat":"yes"`},
		"names at root's port": {`20053`, `1023`},
		"names at no port":     {`20053`, `65536`},
		"unknown operation":    {`network.set`, `network.get`},
		"no operation":         {`"op":"network.set",`, ``},
		"unknown field":        {`"op"`, `"uid":0,"op"`},
		"unknown inner field":  {`"tag"`, `"name":"eth0","tag"`},
		"unknown tap's field":  {`"vm"`, `"tap":"eth0","vm"`},
		"something follows":    {`]}}`, `]}}{}`},
		"a brace follows":      {`]}}`, `]}}}`},
		"operation with extra": {`network.set`, `root.exit`},
		"no network":           {`"network":{`, `"network":null,"x":{`},
		"tag too short":        {`beef`, `bee`},
		"tag too long":         {`beef`, `beeff`},
		"tag in capitals":      {`beef`, `BEEF`},
		"tag with a path":      {`beef`, `../x`},
		"VM ID too short":      {`0a1b2c3d`, `0a1b2c3`},
		"VM ID in capitals":    {`0a1b2c3d`, `0A1B2C3D`},
		"VM ID with a path":    {`0a1b2c3d`, `../../ab`},
		"public subnet":        {`10.77.16.0/20`, `8.8.16.0/20`},
		"almost private":       {`10.77.16.0/20`, `172.32.0.0/16`},
		"almost shared":        {`10.77.16.0/20`, `100.128.0.0/16`},
		"loopback":             {`10.77.16.0/20`, `127.0.0.0/16`},
		"subnet too large":     {`10.77.16.0/20`, `10.76.0.0/15`},
		"subnet too small":     {`10.77.16.0/20`, `10.77.16.0/29`},
		"subnet of an address": {`10.77.16.0/20`, `10.77.16.1/20`},
		"IPv6 subnet":          {`10.77.16.0/20`, `fd00::/20`},
		"IPv4 in IPv6":         {`10.77.16.0/20`, `::ffff:10.77.16.0/116`},
		"no subnet":            {`10.77.16.0/20`, ``},
		"address outside":      {`16.3`, `32.3`},
		"the subnet's own":     {`16.3`, `16.0`},
		"the gateway's":        {`16.3`, `16.1`},
		"the resolver's":       {`16.3`, `16.2`},
		"the broadcast":        {`16.3`, `31.255`},
		"IPv6 address":         {`10.77.16.3`, `fe80::1`},
		"IPv4 in IPv6 address": {`10.77.16.3`, `::ffff:10.77.16.3`},
		"address with a zone":  {`10.77.16.3`, `fe80::1%eth0`},
		"no address":           {`10.77.16.3`, ``},
		"VM twice":             {`"taps":[`, `"taps":[{"vm":"0a1b2c3d","address":"10.77.16.9","isolated":true},`},
		"address twice":        {`"taps":[`, `"taps":[{"vm":"0a1b2c3e","address":"10.77.16.3","isolated":true},`},
		"too many taps":        {`{"vm":"0a1b2c3d","address":"10.77.16.3","isolated":true,"nat":true}`, strings.Join(many, ",")},
	} {
		msg := strings.Replace(good, edit[0], edit[1], 1)
		if msg == good {
			t.Fatalf("%s: nothing was edited", name)
		}
		_, err := privileged.ParseRequest([]byte(msg), 0)
		if banger.CodeOf(err) != banger.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := privileged.ParseRequest([]byte(good), 1); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("with a descriptor: %v", err)
	}
	fits := strings.Replace(good, `{"vm":"0a1b2c3d","address":"10.77.16.3","isolated":true,"nat":true}`, strings.Join(many[1:], ","), 1)
	if _, err := privileged.ParseRequest([]byte(fits), 0); err != nil || len(fits) > privileged.MaxMessage {
		t.Errorf("as many taps as may be, %d bytes: %v", len(fits), err)
	}
}

// Whatever is accepted is what a client could have sent, and within bounds.
func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(good), uint8(0))
	f.Add([]byte(goodDisk), uint8(2))
	f.Add([]byte(strings.Replace(good, `"nat":true`, `"nat":true,"allow":[{"port":5432,"protocol":"tcp"}]`, 1)), uint8(0))
	f.Add([]byte(strings.Replace(good, `}]}}`, `}],"ports":[{"vm":"0a1b2c3d","guest":80}]}}`, 1)), uint8(1))
	f.Add([]byte(`{"protocol":2,"op":"resolver.set","resolver":{"tag":"beef","server":"127.0.0.1:5353"}}`), uint8(0))
	f.Add([]byte(`{"protocol":2,"op":"root.exit"}`), uint8(0))
	f.Add([]byte(`{"protocol":1,"op":"kvm.allow"}`), uint8(0))
	f.Add([]byte(`{"protocol":1,"op":"network.set","network":{"tag":"0000","subnet":"10.77.16.0/20","taps":[{"vm":"0a1b2c3d","address":"10.77.16.3"}]}}`), uint8(0))
	f.Add([]byte(`{"Protocol":1,"OP":"network.set","network":{"tag":"0000","subnet":"100.64.0.0/28","taps":null}}`), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, files uint8) {
		r, err := privileged.ParseRequest(b, int(files))
		if err != nil {
			if banger.CodeOf(err) != banger.Invalid || len(err.Error()) > 1000+2*len(b) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		r2, err := privileged.ParseRequest(again, int(files))
		if same, jerr := json.Marshal(r2); err != nil || jerr != nil || string(same) != string(again) {
			t.Errorf("%s became %s: %v, %v", again, same, err, jerr)
		}
		if d := r.Disk; d != nil && (!d.VM.Valid() || len(d.Tag) != 4 || d.Size < 0) {
			t.Errorf("accepted %+v", d)
		}
		if n := r.Resolver; n != nil && n.Server.IsValid() && !n.Server.Addr().IsLoopback() {
			t.Errorf("accepted %+v", n)
		}
		if r.Network == nil {
			return
		}
		if len(r.Network.Ports) != int(files) {
			t.Errorf("accepted %d ports with %d descriptors", len(r.Network.Ports), files)
		}
		for _, tap := range r.Network.Taps {
			if !tap.VM.Valid() || !r.Network.Subnet.Contains(tap.Addr) || !tap.Addr.Is4() {
				t.Errorf("accepted %+v in %s", tap, r.Network.Subnet)
			}
		}
	})
}
