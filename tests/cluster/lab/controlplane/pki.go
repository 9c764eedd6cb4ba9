// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Certificates live a little longer than any test, and begin earlier than any clock is late.
const (
	before = 24 * time.Hour
	after  = 30 * 24 * time.Hour
)

// makeAuthority writes ca.crt, ca.key and the key pair of the service accounts: pki FOLDER.
func makeAuthority(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: controlplane pki FOLDER")
	}
	folder := args[0]
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := certificate("lab-ca")
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := writePair(folder, "ca", der, key); err != nil {
		return err
	}
	accounts, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	if err := writeKey(filepath.Join(folder, "accounts.key"), accounts); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(accounts.Public())
	if err != nil {
		return err
	}
	return writeBlock(filepath.Join(folder, "accounts.pub"), "PUBLIC KEY", public)
}

// makeCertificate signs NAME.crt and NAME.key: certificate FOLDER NAME USER [GROUP...|@ADDRESS...].
// What begins with @ is a name or an address under which a server is reached.
func makeCertificate(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: controlplane certificate FOLDER NAME USER [GROUP...] [@ADDRESS...]")
	}
	folder, name, user := args[0], args[1], args[2]
	var groups []string
	template := certificate(user)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, arg := range args[3:] {
		host, server := strings.CutPrefix(arg, "@")
		if !server {
			groups = append(groups, arg)
		} else if address := net.ParseIP(host); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	template.Subject.Organization = groups
	if len(template.IPAddresses)+len(template.DNSNames) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	authority, signer, err := readAuthority(folder)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), signer)
	if err != nil {
		return err
	}
	return writePair(folder, name, der, key)
}

func certificate(user string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: user},
		NotBefore:    time.Now().Add(-before),
		NotAfter:     time.Now().Add(after),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func readAuthority(folder string) (*x509.Certificate, crypto.Signer, error) {
	text, err := readBlock(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return nil, nil, err
	}
	authority, err := x509.ParseCertificate(text)
	if err != nil {
		return nil, nil, err
	}
	text, err = readBlock(filepath.Join(folder, "ca.key"))
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(text)
	if err != nil {
		return nil, nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, errors.New("ca.key cannot sign")
	}
	return authority, signer, nil
}

func readBlock(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is no PEM file", path)
	}
	return block.Bytes, nil
}

func writePair(folder, name string, der []byte, key crypto.Signer) error {
	if err := writeKey(filepath.Join(folder, name+".key"), key); err != nil {
		return err
	}
	return writeBlock(filepath.Join(folder, name+".crt"), "CERTIFICATE", der)
}

func writeKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writeBlock(path, "PRIVATE KEY", der)
}

func writeBlock(path, kind string, der []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return os.WriteFile(path, text, 0o600)
}
