<?php
// An admission webhook: it stamps berths, and refuses those with more than ten places.
$request = json_decode(file_get_contents('php://input'), true)['request'] ?? ['uid' => '', 'object' => []];
$response = ['uid' => $request['uid'], 'allowed' => true];
$places = $request['object']['spec']['places'] ?? 0;
if ($_SERVER['REQUEST_URI'] === '/stamp?timeout=10s') {
    $patch = [['op' => 'add', 'path' => '/metadata/labels/inspected-by', 'value' => 'customs']];
    if (!isset($request['object']['metadata']['labels'])) {
        array_unshift($patch, ['op' => 'add', 'path' => '/metadata/labels', 'value' => new stdClass()]);
    }
    $response += ['patchType' => 'JSONPatch', 'patch' => base64_encode(json_encode($patch))];
} elseif ($places > 10) {
    $response['allowed'] = false;
    $response['status'] = ['code' => 403, 'message' => "$places places are more than ten"];
} elseif ($places > 5) {
    $response['warnings'] = ["$places places are many"];
}
header('Content-Type: application/json');
echo json_encode(['apiVersion' => 'admission.k8s.io/v1', 'kind' => 'AdmissionReview', 'response' => $response]);
