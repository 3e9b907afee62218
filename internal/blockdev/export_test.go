package blockdev

import "os"

// NewAt is New with a lock, a directory for rules and a udevd of the test's own.
func NewAt(uid uint32, lock, rules, udev string) *Host { return &Host{uid, lock, rules, udev} }

// Bind is bind; the loop devices by their numbers.
func (h *Host) Bind(image, cow *os.File) (numbers []int, files []*os.File, err error) {
	loops, err := h.bind(image, cow)
	for _, l := range loops {
		n, _ := loopNumber(l.String())
		numbers, files = append(numbers, n), append(files, l.File)
	}
	return numbers, files, err
}

func (h *Host) Unbind(numbers []int) error                  { return h.unbind(numbers) }
func (h *Host) Check(size int64, image, cow *os.File) error { return h.check(size, image, cow) }
func (h *Host) UUID(d Disk) string                          { return h.uuid(d) }
func (h *Host) RuleFile() string                            { return h.rule() }
func BoundTo(dev string, f *os.File) bool                   { return boundTo(dev, f) }
func CheckFS(f *os.File) error                              { return checkFS(f) }

// Reencode is what the kernel is sent for a table, decoded again.
func Reencode(start, length uint64, kind, params string) (string, error) {
	b := encode([]target{{start, length, kind, params}})
	t, err := decode(b, 1)
	if err != nil {
		return "", err
	}
	return t[0].kind + " " + t[0].params, nil
}

func Decode(b []byte, n uint32) (int, error) {
	t, err := decode(b, n)
	return len(t), err
}
