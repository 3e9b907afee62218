package banger

// maxName is the length of a DNS label (RFC 1035, section 2.3.4).
const maxName = 63

// ValidName returns nil if a VM may have this name, else an Invalid that says
// why not. A name becomes a host name and a DNS name: a label of RFC 1123,
// lower-case. Three more are refused: what looks like a whole VMID, so that no
// name ever stands for another VM's ID, localhost, which a guest needs for
// itself, and HostName.
func ValidName(name string) error {
	const remedy = "use lower-case letters, digits and hyphens, at most 63, such as web-1"
	refuse := func(why string) error {
		if len(name) > 2*maxName {
			name = name[:2*maxName] + "…"
		}
		return Errorf(Invalid, "%q is no name for a VM: %s", name, why).WithRemedy(remedy)
	}
	switch {
	case name == "":
		return refuse("it is empty")
	case len(name) > maxName:
		return refuse("it is longer than 63 letters")
	case name[0] == '-' || name[len(name)-1] == '-':
		return refuse("it begins or ends with a hyphen")
	case name == "localhost":
		return refuse("every machine calls itself that")
	case name == HostName:
		return refuse("guests call the host that")
	case VMID(name).Valid():
		return refuse("it looks like a VM's ID")
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return refuse("only lower-case letters, digits and hyphens go into a host name")
		}
	}
	return nil
}
