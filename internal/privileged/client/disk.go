package client

import (
	"context"
	"os"

	"banger"
	"banger/internal/privileged"
)

// ProbeDisk asks whether disks can be attached whose copy-on-write files lie in
// the directory dir.
func (c *Client) ProbeDisk(ctx context.Context, dir *os.File) error {
	_, err := c.exchange(ctx, privileged.Request{Op: privileged.DiskProbe}, dir)
	return err
}

// AttachDisk makes the root disk of a VM of the installation tag, of size bytes,
// and returns the path of its device.
func (c *Client) AttachDisk(ctx context.Context, tag string, vm banger.VMID, size int64, image, cow *os.File) (string, error) {
	a, err := c.exchange(ctx, privileged.Request{Op: privileged.DiskAttach, Disk: &privileged.Disk{Tag: tag, VM: vm, Size: size}}, image, cow)
	return a.Device, err
}

// DetachDisk takes it down. Busy while somebody has it open.
func (c *Client) DetachDisk(ctx context.Context, tag string, vm banger.VMID) error {
	return c.ask(ctx, privileged.Request{Op: privileged.DiskDetach, Disk: &privileged.Disk{Tag: tag, VM: vm}})
}

// DiskFill is how much of its copy-on-write file is used, bytes.
func (c *Client) DiskFill(ctx context.Context, tag string, vm banger.VMID) (used, total int64, err error) {
	a, err := c.exchange(ctx, privileged.Request{Op: privileged.DiskStatus, Disk: &privileged.Disk{Tag: tag, VM: vm}})
	return a.Used, a.Total, err
}
