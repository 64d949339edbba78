// Tokenizes a card, gets its number back for a payment, and reads a refusal.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	cardex "payment/gen/cardex/v1"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	transport, err := mutualTLS(os.Getenv("CARDEX_CA"), os.Getenv("CARDEX_CERT"), os.Getenv("CARDEX_KEY"))
	if err != nil {
		return err
	}
	conn, err := grpc.Dial(os.Getenv("CARDEX_SERVER"), grpc.WithTransportCredentials(transport))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	tokens := cardex.NewTokenServiceClient(conn)

	stored, err := tokens.Tokenize(ctx, &cardex.TokenizeRequest{
		RequestId: newRequestID(), // the same request sent again gets the same answer
		Pan:       "4111111111111111",
		Expiry:    &cardex.Expiry{Year: 2035, Month: 12},
	})
	if err != nil {
		return err
	}
	fmt.Println("token", stored.GetToken())
	fmt.Println("index code", stored.GetIndexCode())

	forPayment := &cardex.DetokenizeRequest{Token: stored.GetToken(), Purpose: cardex.Purpose_PURPOSE_PAYMENT}
	revealed, err := tokens.Detokenize(ctx, forPayment)
	if err != nil {
		return err
	}
	fmt.Println("ends with", revealed.GetPan()[len(revealed.GetPan())-4:])

	if _, err := tokens.RevokeToken(ctx, &cardex.RevokeTokenRequest{RequestId: newRequestID(), Token: stored.GetToken()}); err != nil {
		return err
	}
	_, err = tokens.Detokenize(ctx, forPayment)
	fmt.Println("after its revocation", status.Code(err), reason(err))
	return nil
}

func mutualTLS(caFile, certFile, keyFile string) (credentials.TransportCredentials, error) {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}}), nil
}

// reason is the reason of a refused call, for example "NOT_FOUND"; "" where no Cardex server answered.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "cardex" {
			return info.GetReason()
		}
	}
	return ""
}

// newRequestID makes a random UUID (RFC 9562, version 4).
func newRequestID() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		log.Fatal(err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
