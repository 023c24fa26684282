"""A client in another language: what Python makes of the protos, against a running server.

    smoke.py ADDRESS TENANT

Generates stubs from `proto/` and `third_party/googleapis`, lists the tenant's brands, and reads the
rich details of a refusal. Exits with 1 and says why when something is not as it should be. Needs
grpcio-tools.
"""

import pathlib
import sys
import tempfile

import grpc
import grpc_tools
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROTOS = [ROOT / "proto", ROOT / "third_party/googleapis"]


def generate(folder):
    files = [str(file) for protos in PROTOS for file in sorted(protos.rglob("*.proto"))]
    # Those of google.protobuf come with grpcio-tools.
    includes = [f"-I{protos}" for protos in [*PROTOS, f"{grpc_tools.__path__[0]}/_proto"]]
    arguments = ["protoc", *includes, f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main([*arguments, *files]) != 0:
        sys.exit("protoc refuses the protos")
    sys.path.insert(0, folder)


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r} instead of {wanted!r}")


def details(error):
    """The messages of `google.rpc.Status.details`, by type."""
    from google.rpc import error_details_pb2, status_pb2

    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    found = {}
    for any_message in status.details:
        name = any_message.TypeName().rpartition(".")[2]
        message = getattr(error_details_pb2, name)()
        any_message.Unpack(message)
        found[name] = message
    return found


def refusal(call, request, metadata):
    try:
        call(request, metadata=metadata, timeout=10)
    except grpc.RpcError as error:
        return error
    sys.exit("a call that must be refused was not")


def main(address, tenant):
    from anklang.brands.v1 import brands_pb2, brands_pb2_grpc
    from anklang.campaigns.v1 import campaigns_pb2, campaigns_pb2_grpc

    as_tenant = [("anklang-tenant", tenant)]
    with grpc.insecure_channel(address) as channel:
        brands = brands_pb2_grpc.BrandServiceStub(channel)
        campaigns = campaigns_pb2_grpc.CampaignServiceStub(channel)

        listed = brands.ListBrands(brands_pb2.ListBrandsRequest(), metadata=as_tenant, timeout=10)
        if not listed.brands:
            sys.exit("the tenant has no brands")
        for brand in listed.brands:
            print(f"{brand.name}: {brand.display_name}")

        error = refusal(brands.ListBrands, brands_pb2.ListBrandsRequest(), [])
        expect("code without a tenant", error.code(), grpc.StatusCode.UNAUTHENTICATED)
        expect("reason without a tenant", details(error)["ErrorInfo"].reason, "TENANT_REQUIRED")

        # Wrong in many ways: all of them come back at once.
        request = campaigns_pb2.LaunchCampaignRequest(
            request_id="once", target_product_version="products/1"
        )
        error = refusal(campaigns.LaunchCampaign, request, as_tenant)
        expect("code of a wrong launch", error.code(), grpc.StatusCode.INVALID_ARGUMENT)
        found = details(error)
        expect("domain of a wrong launch", found["ErrorInfo"].domain, "anklang")
        expect("reason of a wrong launch", found["ErrorInfo"].reason, "INVALID_ARGUMENT")
        violations = {v.field: v.description for v in found["BadRequest"].field_violations}
        for field, description in violations.items():
            print(f"refused, {field}: {description}")
        wanted = {
            "request_id",
            "campaign_target",
            "audience",
            "target_product_version",
            "offer_valid_until_date",
            "outbound.channel_account",
        }
        expect("fields of a wrong launch", set(violations), wanted)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as generated:
        generate(generated)
        main(*sys.argv[1:])
