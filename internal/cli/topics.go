package cli

import "github.com/spf13/cobra"

// topics are pages of help that belong to no command.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{
			Use:   "exit-codes",
			Short: "What the exit codes mean",
			Long: `What the exit codes mean

  0    done
  1    failed, timed out, or interrupted
  2    usage: the command line or a value makes no sense
  3    no such thing
  4    in the wrong state, already there, or busy
  5    the host is not ready: banger doctor says why; so does doctor itself, when
       a check failed
  125  banger's own failure in run and exec, once a guest's command was given and
       the VM is there (before that, the codes above)

Otherwise run and exec return the code of the guest's command, 128+N when signal
N ended it; 127 is that there is no such command, 126 that it cannot be run, as
for a user or a directory (-u, -w) that the guest does not have. When several VMs
were named, the code is that of those that failed, or 1 if they differ.`,
		},
		{
			Use:   "environment",
			Short: "Variables that banger reads",
			Long: `Variables that banger reads

  BANGER_CONFIG       configuration file; $XDG_CONFIG_HOME/banger/config.toml
  BANGER_STATE_DIR    what must not be lost: VMs, images, keys;
                      $XDG_STATE_HOME/banger, for root /var/lib/banger
  BANGER_RUN_DIR      sockets and the like; $XDG_RUNTIME_DIR/banger, for root
                      /run/banger
  BANGER_SOCKET       where the daemon listens
  BANGER_RUNTIME_DIR  runtime bundle
  BANGER_BACKEND      what runs the VMs: firecracker or qemu
  BANGER_FIRECRACKER  path of the program firecracker
  BANGER_NETWORK      network mode of new VMs: auto, user or routed
  BANGER_NETWORK_USER what network mode user is made of: auto, passt or qemu
  BANGER_LOG_LEVEL    of the daemon: debug, info, warn, error
  NO_COLOR            no colours, if it is not empty

A flag comes first, then the environment, then the configuration file, then the
default.`,
		},
	}
}
