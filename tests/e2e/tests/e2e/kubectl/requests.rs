//! `kubectl certificate`: a user asks for a certificate, somebody says yes or no, and the certificate works.

use std::process::Command;

use anyhow::{Result, ensure};
use knarr_e2e::{
    Cluster,
    command::{PATIENCE, run_with, succeed},
};

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_certificate_approve_and_deny", requests)]
}

fn requests(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "csr")?;
    let file = |name: &str| cluster.scratch().join(name).display().to_string();
    let make = format!(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {} -subj /O=crew/CN=ann -out {}",
        file("ann.key"),
        file("ann.csr")
    );
    succeed(Command::new("openssl").args(make.split(' ')))?;
    let request = succeed(Command::new("base64").args(["-w0", &file("ann.csr")]))?;
    for name in ["ann", "eve"] {
        let yaml = format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\nspec:\n  \
             request: {request}\n  signerName: kubernetes.io/kube-apiserver-client\n  expirationSeconds: 3600\n  \
             usages: [client auth]\n"
        );
        let said = kubectl.feed("apply -f -", &yaml)?;
        ensure!(said == format!("certificatesigningrequest.certificates.k8s.io/{name} created\n"), "{said}");
    }
    let head = "NAME AGE SIGNERNAME REQUESTOR REQUESTEDDURATION CONDITION";
    let row = |name: &str, condition: &str| {
        format!("{name} * kubernetes.io/kube-apiserver-client kubernetes-admin 60m {condition}")
    };
    kubectl.table("get csr ann eve", &[head, &row("ann", "Pending"), &row("eve", "Pending")])?;
    kubectl.say(&[
        ("certificate approve ann", "certificatesigningrequest.certificates.k8s.io/ann approved"),
        ("certificate approve ann", "certificatesigningrequest.certificates.k8s.io/ann approved"),
        ("certificate deny eve", "certificatesigningrequest.certificates.k8s.io/eve denied"),
        (
            "get csr ann eve -o jsonpath={.items[*].status.conditions[*].message}",
            "This CSR was approved by kubectl certificate approve. This CSR was denied by kubectl certificate deny.",
        ),
    ])?;
    kubectl.refuse(&[
        ("certificate deny ann", "error: certificate signing request \"ann\" is already Approved"),
        ("certificate approve eve", "error: certificate signing request \"eve\" is already Denied"),
        (
            "certificate approve nobody",
            "Error from server (NotFound): certificatesigningrequests.certificates.k8s.io \"nobody\" not found",
        ),
        (
            "certificate approve eve --as bob",
            "Error from server (Forbidden): certificatesigningrequests.certificates.k8s.io \"eve\" is forbidden: User \
             \"bob\" cannot get resource \"certificatesigningrequests\" in API group \"certificates.k8s.io\" at the \
             cluster scope",
        ),
    ])?;
    kubectl.ask("wait csr/ann --for=jsonpath={.status.certificate} --timeout=20s")?;
    kubectl.table("get csr ann eve", &[head, &row("ann", "Approved,Issued"), &row("eve", "Denied")])?;

    let mut decode = Command::new("base64");
    let certificate = kubectl.ask("get csr ann -o jsonpath={.status.certificate}")?;
    std::fs::write(file("ann.pem"), run_with(decode.arg("-d"), &certificate, PATIENCE)?.stdout)?;
    let shown = succeed(Command::new("openssl").args([
        "x509",
        "-noout",
        "-subject",
        "-ext",
        "extendedKeyUsage,basicConstraints",
        "-in",
        &file("ann.pem"),
    ]))?;
    for part in ["subject=O = crew, CN = ann\n", "TLS Web Client Authentication\n", "CA:FALSE\n"] {
        ensure!(shown.contains(part), "no {part:?} in:\n{shown}");
    }
    let server = cluster.get_raw_config()?.server;
    let as_ann = format!(
        "--kubeconfig=/dev/null --insecure-skip-tls-verify --server={server} --client-certificate={} --client-key={}",
        file("ann.pem"),
        file("ann.key")
    );
    let who = kubectl.ask(&format!("auth whoami {as_ann}"))?;
    ensure!(who == "ATTRIBUTE   VALUE\nUsername    ann\nGroups      [crew system:authenticated]\n", "{who}");
    kubectl.ask("delete csr ann eve")?;
    kubectl.end()
}
