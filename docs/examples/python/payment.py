"""Tokenizes a card, gets its number back for a payment, and reads a refusal.

The generated code is expected in the folder "gen" beside this file; README says how it is made.
"""

import os
import sys
import uuid

import grpc

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "gen"))
from cardex.v1 import card_pb2, token_service_pb2, token_service_pb2_grpc  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402


def read(name):
    """The content of the file that an environment variable names."""
    with open(os.environ[name], "rb") as file:
        return file.read()


def reason(error):
    """The reason of a refused call, for example "NOT_FOUND"; "" where no Cardex server answered."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason
    return ""


def main():
    credentials = grpc.ssl_channel_credentials(
        root_certificates=read("CARDEX_CA"),
        private_key=read("CARDEX_KEY"),
        certificate_chain=read("CARDEX_CERT"),
    )
    with grpc.secure_channel(os.environ["CARDEX_SERVER"], credentials) as channel:
        tokens = token_service_pb2_grpc.TokenServiceStub(channel)
        stored = tokens.Tokenize(
            token_service_pb2.TokenizeRequest(
                request_id=str(uuid.uuid4()),  # the same request sent again gets the same answer
                pan="4111111111111111",
                expiry=card_pb2.Expiry(year=2035, month=12),
            ),
            timeout=10,
        )
        print("token", stored.token)
        print("index code", stored.index_code)

        revealed = tokens.Detokenize(
            token_service_pb2.DetokenizeRequest(token=stored.token, purpose=token_service_pb2.PURPOSE_PAYMENT),
            timeout=10,
        )
        print("ends with", revealed.pan[-4:])

        tokens.RevokeToken(
            token_service_pb2.RevokeTokenRequest(request_id=str(uuid.uuid4()), token=stored.token),
            timeout=10,
        )
        try:
            tokens.Detokenize(
                token_service_pb2.DetokenizeRequest(token=stored.token, purpose=token_service_pb2.PURPOSE_PAYMENT),
                timeout=10,
            )
        except grpc.RpcError as error:
            print("after its revocation", error.code().name, reason(error))


if __name__ == "__main__":
    main()
