//! The machine-learning bill of materials: CycloneDX 1.6 as JSON.
//!
//! No time and no random serial number: the same model makes the same document, so that packing can be repeated.

use serde_json::{Value, json};
use switchback_signing::{
    bundle::{
        Contract,
        contract::Tensor,
        manifest::{FileEntry, Release},
    },
    digest::Sha256Digest,
};

/// What the document is about.
pub(super) struct Subject<'a> {
    pub(super) release: &'a Release,
    pub(super) contract: &'a Contract,
    pub(super) files: &'a [FileEntry],
    pub(super) supplier: Option<&'a str>,
    pub(super) license: Option<&'a str>,
}

/// Writes the document.
pub(super) fn build(subject: &Subject<'_>) -> anyhow::Result<Vec<u8>> {
    let Subject { release, contract, files, .. } = subject;
    let reference = format!("{}@{}", release.target_stem(), release.release_counter);
    let parameter = |tensor: Tensor<'_>| json!({"format": format!("{}: {} {:?}", tensor.name, tensor.dtype, tensor.shape)});
    let mut model = json!({
        "type": "machine-learning-model",
        "bom-ref": reference,
        "name": release.model,
        "version": release.version,
        "modelCard": {
            "modelParameters": {
                "inputs": contract.input_tensors().map(parameter).collect::<Vec<Value>>(),
                "outputs": contract.output_tensors().map(parameter).collect::<Vec<Value>>(),
            },
        },
        "properties": properties(release, contract),
    });
    if let Some(supplier) = subject.supplier {
        model["supplier"] = json!({"name": supplier});
    }
    if let Some(license) = subject.license {
        model["licenses"] = json!([{"expression": license}]);
    }
    let file = |file: &FileEntry| {
        json!({
            "type": "file",
            "bom-ref": format!("{reference}#{}", file.path),
            "name": file.path,
            "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        })
    };
    let parts: Vec<String> = files.iter().map(|file| format!("{reference}#{}", file.path)).collect();
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial_number(&reference, files),
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "switchback", "version": env!("CARGO_PKG_VERSION")}]},
            "component": model,
        },
        "components": files.iter().map(file).collect::<Vec<Value>>(),
        "dependencies": [{"ref": reference, "dependsOn": parts}],
    });
    let mut bytes = serde_json::to_vec_pretty(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn properties(release: &Release, contract: &Contract) -> Value {
    let property = |name: &str, value: String| json!({"name": format!("switchback:{name}"), "value": value});
    json!([
        property("tier", release.tier.clone()),
        property("releaseCounter", release.release_counter.to_string()),
        property("hardwareIds", release.hardware_ids.join(" ")),
        property("contractVersion", contract.contract_version.to_string()),
        property("onnxruntimeMin", contract.runtime.onnxruntime_min.clone()),
        property("features", contract.features.join(" ")),
    ])
}

/// A UUID of version 8 (RFC 9562, section 5.8: our own bits) from the hash of what is described.
fn serial_number(reference: &str, files: &[FileEntry]) -> String {
    let content: Vec<String> = files.iter().map(|file| format!("{} {}\n", file.sha256, file.path)).collect();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256Digest::of(format!("{reference}\n{}", content.concat()).as_bytes()).as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
