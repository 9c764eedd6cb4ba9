// SPDX-License-Identifier: Apache-2.0

// One program with the parts of a Kubernetes control plane that the tests need: the store, the API
// server, the controllers, and the certificates by which they know each other.
package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const usage = "usage: controlplane etcd|kube-apiserver|kube-controller-manager|pki|certificate [flags]"

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	// Each component parses the arguments after its own name.
	name := os.Args[1]
	os.Args = os.Args[1:]
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(manager.NewControllerManagerCommand()))
	case "pki":
		if err := makeAuthority(os.Args[1:]); err != nil {
			fail(err.Error())
		}
	case "certificate":
		if err := makeCertificate(os.Args[1:]); err != nil {
			fail(err.Error())
		}
	default:
		fail("unknown component " + name + "\n" + usage)
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(2)
}
